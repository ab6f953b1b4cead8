"""Goodfire's SAEs: one .pth or .pt file with the state dict of a ReLU autoencoder of two linear layers.

Formula: the model cards of huggingface.co/Goodfire. b_dec is not taken off the input.
"""

import re

from torch import nn

from jobs.engine.saes.base import SAE, Overrides, Site, Source, digest_files
from jobs.engine.saes.place import Place, nearest
from jobs.engine.saes.weights import PICKLES

NAME = "goodfire"

_LAYER = re.compile(r"-l(\d{1,4})(?![A-Za-z0-9])", re.ASCII)
_HOOK = "The file names no hook: Goodfire's published SAEs read the residual stream after the layer."


def detect(place: Place) -> bool:
    if not (place.is_file and place.path.suffix in PICKLES):
        return False
    return any(name.startswith("encoder_linear.") for name in place.weights.infos)


def load(place: Place, overrides: Overrides) -> SAE:
    """Raises SAELoadError on tensors that are not those of the format."""
    weights = place.weights
    overrides.no_k(weights.file, "standard")
    weights.only("encoder_linear.weight", "encoder_linear.bias", "decoder_linear.weight", "decoder_linear.bias")
    d_sae, d_in = weights.length("encoder_linear.bias"), weights.length("decoder_linear.bias")
    layer = nearest(_LAYER, place.parts[:2])
    source = Source(
        format=NAME,
        architecture="standard",
        digest=digest_files(weights.file),
        dtype_on_disk=weights.dtype_name("encoder_linear.weight"),
        path=place.path,
        files=(weights.file,),
        site=Site.find(overrides, read_as="resid_post", layer=None if layer is None else int(layer)),
        notes=() if overrides.hook else (_HOOK,),
    )
    return SAE(
        source,
        W_enc=weights.tensor("encoder_linear.weight", d_sae, d_in).T,
        b_enc=weights.tensor("encoder_linear.bias", d_sae),
        W_dec=weights.tensor("decoder_linear.weight", d_in, d_sae).T,
        b_dec=weights.tensor("decoder_linear.bias", d_in),
        activation=nn.ReLU(inplace=True),
    )
