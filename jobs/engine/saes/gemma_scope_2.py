"""Gemma Scope 2: a folder with ``config.json`` and ``params.safetensors``, JumpReLU SAEs and transcoders of Gemma 3.

As Gemma Scope, with a config that names the hook points. Some transcoders add a skip: + x @ affine [d_in, d_out].
"""

from torch import Tensor

from jobs.engine import hook_names
from jobs.engine.errors import SAELoadError
from jobs.engine.saes.activations import JumpReLU
from jobs.engine.saes.base import SAE, Overrides, Site, Source, digest_files
from jobs.engine.saes.gemma_scope import path_layer, read_jumprelu
from jobs.engine.saes.place import Place
from jobs.engine.saes.text import Config
from jobs.engine.saes.weights import Weights, open_weights

NAME = "gemma_scope_2"

CONFIG, WEIGHTS = "config.json", "params.safetensors"
MAX_L0 = 1e9
_SKIP = "affine_skip_connection"


def detect(place: Place) -> bool:
    return place.has(WEIGHTS)


def load(place: Place, overrides: Overrides) -> SAE:
    """Raises SAELoadError, also on transcoders and crosscoders of several layers."""
    config, weights = Config(place.file(CONFIG)), open_weights(place.file(WEIGHTS))
    variant = config.choice("architecture", ("jump_relu",))
    is_transcoder = config.choice("type", ("sae", "transcoder")) == "transcoder"
    skips = _skips(config, weights)
    tensors = _tensors(config, weights, skips)
    if not is_transcoder and (skips or tensors["W_enc"].shape[0] != tensors["W_dec"].shape[1]):
        raise SAELoadError(f"{config.file} says type 'sae', but {weights.file} holds a transcoder: correct the type.")
    architecture = ("jumprelu_skip_transcoder" if skips else "jumprelu_transcoder") if is_transcoder else "jumprelu"
    overrides.no_k(config.file, architecture)
    source = Source(
        format=NAME,
        architecture=architecture,
        digest=digest_files(config.file, weights.file),
        dtype_on_disk=weights.dtype_name("w_enc"),
        path=place.path,
        files=(config.file, weights.file),
        site=_site(config, place, overrides, is_transcoder),
        variant=variant,
        is_transcoder=is_transcoder,
        reported_l0=_l0(config),
        model_name=config.name("model_name"),
    )
    return SAE(source, activation=JumpReLU(tensors.pop("threshold")), **tensors, norm=None, undo_norm=False)


def _skips(config: Config, weights: Weights) -> bool:
    skips = _SKIP in weights
    if config.get("affine_connection", bool, skips) != skips:
        stated, held = ("sets", "has no") if not skips else ("does not set", "holds")
        raise SAELoadError(f"{config.file} {stated} affine_connection, but {weights.file} {held} {_SKIP}.")
    return skips


def _tensors(config: Config, weights: Weights, skips: bool) -> dict[str, Tensor]:
    tensors = read_jumprelu(weights, {"W_enc": "w_enc", "W_dec": "w_dec"}, optional=(_SKIP,))
    (d_in, d_sae), d_out = tensors["W_enc"].shape, tensors["W_dec"].shape[1]
    config.size("width", d_sae)
    if skips:
        tensors["W_skip"] = weights.tensor(_SKIP, d_in, d_out).T.contiguous()
    return tensors


def _site(config: Config, place: Place, overrides: Overrides, is_transcoder: bool) -> Site:
    reads, writes = config.name("hf_hook_point_in"), config.name("hf_hook_point_out")
    if not is_transcoder and reads and writes and reads != writes:
        raise SAELoadError(f"{config.file} says type 'sae', but reads {reads} and writes {writes}: correct the type.")
    layer = path_layer(place) if hook_names.parse(reads)[1] is None else None
    return Site.find(overrides, reads, layer=layer, out_name=writes if is_transcoder else None)


def _l0(config: Config) -> float | None:
    value = config.fields.get("l0")
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_L0:
        return float(value)
    return None
