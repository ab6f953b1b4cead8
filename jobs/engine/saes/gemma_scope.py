"""Gemma Scope: ``layer_20/width_16k/average_l0_71/params.npz``, JumpReLU SAEs and transcoders without any config.

Formula: Lieberum et al. 2024, arXiv 2408.05147. Layer and L0 are in the path, the site only in the repository's name.
"""

import re
from collections.abc import Mapping

from torch import Tensor

from jobs.engine.saes.activations import JumpReLU
from jobs.engine.saes.base import SAE, Overrides, Site, Source, digest_files
from jobs.engine.saes.place import Place, nearest
from jobs.engine.saes.weights import Weights, open_weights

NAME = "gemma_scope"

WEIGHTS = "params.npz"
_REPOSITORY = re.compile(r"gemma-scope-\d+b-[a-z]+-(res|mlp|att|transcoders)(?![a-z])")
_SITES = {"res": "resid_post", "mlp": "mlp_out", "att": "z"}
_LAYER = re.compile(r"(?<![a-z0-9])layer_(\d{1,4})(?!\d)", re.ASCII)
_L0 = re.compile(r"(?<![a-z0-9])average_l0_(\d{1,6}(?:\.\d{1,6})?)", re.ASCII)
_UNSCALED = (
    "Reads the embeddings before they are multiplied by sqrt(d_in), as the model's own embedding layer does now."
)


def detect(place: Place) -> bool:
    return place.has(WEIGHTS)


def load(place: Place, overrides: Overrides) -> SAE:
    """Raises SAELoadError on arrays that are not those of the format."""
    weights = open_weights(place.file(WEIGHTS))
    # Some of the files have the matrices' names in lower case.
    matrices = {name: name.lower() if name.lower() in weights else name for name in ("W_enc", "W_dec")}
    tensors = read_jumprelu(weights, matrices)
    d_in, d_out = tensors["W_enc"].shape[0], tensors["W_dec"].shape[1]
    repository, l0 = nearest(_REPOSITORY, place.parts), nearest(_L0, place.parts)
    is_transcoder = d_in != d_out or repository == "transcoders"
    architecture = "jumprelu_transcoder" if is_transcoder else "jumprelu"
    overrides.no_k(weights.file, architecture)
    embeds = "embedding" in place.parts[:3]
    source = Source(
        format=NAME,
        architecture=architecture,
        digest=digest_files(weights.file),
        dtype_on_disk=weights.dtype_name(matrices["W_enc"]),
        path=place.path,
        files=(weights.file,),
        site=_site(overrides, repository, path_layer(place), is_transcoder, embeds),
        is_transcoder=is_transcoder,
        reported_l0=None if l0 is None else float(l0),
        notes=(_UNSCALED,) if embeds else (),
    )
    return SAE(source, activation=JumpReLU(tensors.pop("threshold")), **tensors, norm=None, undo_norm=False)


def read_jumprelu(weights: Weights, matrices: Mapping[str, str], optional: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """W_enc [d_in, F], W_dec [F, d_out], b_enc, b_dec, threshold; ``matrices`` has what the file calls the first two.

    Nothing else may be in the file but ``optional``.
    """
    weights.only(*matrices.values(), "b_enc", "b_dec", "threshold", optional=optional)
    d_sae, d_out = weights.length("b_enc"), weights.length("b_dec")
    rows, columns = weights.rows(matrices["W_enc"]), weights.columns(matrices["W_enc"])
    d_in = rows if columns == d_sae else d_out
    return {
        "W_enc": weights.tensor(matrices["W_enc"], d_in, d_sae),
        "W_dec": weights.tensor(matrices["W_dec"], d_sae, d_out),
        "b_enc": weights.tensor("b_enc", d_sae),
        "b_dec": weights.tensor("b_dec", d_out),
        "threshold": weights.tensor("threshold", d_sae),
    }


def path_layer(place: Place) -> int | None:
    """The layer in the nearest ``layer_20`` on the way here."""
    layer = nearest(_LAYER, place.parts)
    return None if layer is None else int(layer)


def _site(overrides: Overrides, repository: str | None, layer: int | None, is_transcoder: bool, embeds: bool) -> Site:
    if embeds:
        # No hook: the hook point "embeddings" may have other, scaled values.
        return Site.find(overrides, layer=0)
    if not is_transcoder:
        return Site.find(overrides, read_as=_SITES.get(repository or ""), layer=layer)
    if repository != "transcoders":
        return Site.find(overrides, layer=layer)
    return Site.find(overrides, read_as="mlp_in_normalized", layer=layer, out_name="mlp_out")
