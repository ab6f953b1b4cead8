"""Qwen-Scope: ``SAE-Res-{model}-W{width}-L0_{k}/layer{n}.sae.pt``, a TopK SAE whose k is only in the folder's name.

    p = x @ W_enc.T + b_enc,  f = the k largest p as they are,  y = f @ W_dec.T + b_dec

Both matrices are stored transposed. SAELens puts a ReLU behind the top k, the model card does not, and no more does
this: they differ only on tokens with fewer than k positive p.
"""

import re

from jobs.engine.saes.activations import TopK
from jobs.engine.saes.base import SAE, Overrides, Site, Source, digest_files
from jobs.engine.saes.place import Place

NAME = "qwen_scope"

_FILE = re.compile(r"layer(\d{1,4})\.sae", re.ASCII)
_FOLDER = re.compile(r"(?:.*-)?L0_(\d{1,9})", re.ASCII | re.DOTALL)


def detect(place: Place) -> bool:
    return place.is_file and place.path.suffix == ".pt" and _FILE.fullmatch(place.parts[0]) is not None


def load(place: Place, overrides: Overrides) -> SAE:
    """Raises SAELoadError where neither the path nor ``overrides`` say k."""
    weights = place.weights
    weights.only("W_enc", "W_dec", "b_enc", "b_dec")
    d, d_sae = weights.length("b_dec"), weights.length("b_enc")
    k = overrides.choose_k(_k(place), d_sae, weights.file)
    file_name = _FILE.fullmatch(place.parts[0])
    source = Source(
        format=NAME,
        architecture="topk",
        digest=digest_files(weights.file),
        dtype_on_disk=weights.dtype_name("W_enc"),
        path=place.path,
        files=(weights.file,),
        site=Site.find(overrides, read_as="resid_post", layer=int(file_name[1]) if file_name else None),
        notes=("The k largest pre-activations are kept as they are, negative ones too.",),
    )
    return SAE(
        source,
        W_enc=weights.tensor("W_enc", d_sae, d).T,
        b_enc=weights.tensor("b_enc", d_sae),
        W_dec=weights.tensor("W_dec", d, d_sae).T,
        b_dec=weights.tensor("b_dec", d),
        activation=TopK(k, relu=False),
    )


def _k(place: Place) -> int | None:
    """As the nearest folder on the way says, or None."""
    found = (_FOLDER.fullmatch(part) for part in place.parts[1:])
    return next((int(match[1]) for match in found if match), None)
