"""EleutherAI's sparsify: ``layers.9/cfg.json`` and ``sae.safetensors``, TopK and groupmax coders and transcoders.

Formulas follow the library (github.com/EleutherAI/sparsify, ``sparse_coder.py``). The hook point is the folder's name.
"""

import re
from pathlib import Path

from torch import Tensor, nn

from jobs.engine import hook_names
from jobs.engine.errors import SAELoadError
from jobs.engine.saes.activations import GroupMax, TopK
from jobs.engine.saes.base import SAE, Overrides, Site, Source, digest_files
from jobs.engine.saes.place import Place
from jobs.engine.saes.text import Config, clip
from jobs.engine.saes.weights import Weights, open_weights

NAME = "sparsify"

CONFIG, WEIGHTS = "cfg.json", "sae.safetensors"
_SWITCHES = {"transcode", "skip_connection", "signed"}
_NUMBERS = {"k", "num_latents", "d_in"}  # which are checked where they are read
_TRAINING = {"normalize_decoder", "multi_topk", "naive_decoder"}  # switches that change nothing of what is computed


def detect(place: Place) -> bool:
    return place.has(WEIGHTS)


def load(place: Place, overrides: Overrides) -> SAE:
    """Raises SAELoadError on what the library would not read, and on options that are not known here."""
    config, weights = Config(place.file(CONFIG)), open_weights(place.file(WEIGHTS))
    _check_switches(config)
    is_transcoder = config.get("transcode", bool, False)
    skips = config.get("skip_connection", bool, False)
    tensors = _tensors(config, weights, skips)
    variant = config.choice("activation", ("topk", "groupmax"), "topk")
    activation = _activation(config, overrides, variant, tensors["W_enc"].shape[1])
    architecture = "abstopk" if isinstance(activation, TopK) and activation.by_magnitude else variant
    if is_transcoder:
        architecture += "_skip_transcoder" if skips else "_transcoder"
    source = Source(
        format=NAME,
        architecture=architecture,
        digest=digest_files(config.file, weights.file),
        dtype_on_disk=weights.dtype_name("encoder.weight"),
        path=place.path,
        files=(config.file, weights.file),
        site=_site(place, overrides, is_transcoder),
        variant=variant,
        is_transcoder=is_transcoder,
        notes=("Adds a linear skip of its input.",) if skips and not is_transcoder else (),
    )
    pre_bias = None if is_transcoder else tensors["b_dec"]
    return SAE(source, activation=activation, **tensors, pre_bias=pre_bias, norm=None, undo_norm=False)


def _check_switches(config: Config) -> None:
    """What else is switched on may change what is computed (``gram_lookup``, ``encoder_pkm``)."""
    on = {name for name, value in config.fields.items() if value is True}
    if unknown := sorted(on - _SWITCHES - _TRAINING - _NUMBERS):
        raise SAELoadError(f"{config.file} sets {clip(unknown[0])}, an option that is not known here.")


def _tensors(config: Config, weights: Weights, skips: bool) -> dict[str, Tensor]:
    if "W_dec" not in weights:
        raise SAELoadError(f"{weights.file} holds no W_dec, only an encoder: take a checkpoint with its decoder.")
    if ("W_skip" in weights) != skips:
        stated, held = ("sets", "has no") if skips else ("does not set", "holds")
        raise SAELoadError(f"{config.file} {stated} skip_connection, but {weights.file} {held} W_skip.")
    weights.only("encoder.weight", "encoder.bias", "W_dec", "b_dec", *(["W_skip"] if skips else []))
    d_sae, d_in = weights.length("encoder.bias"), weights.length("b_dec")
    _check_sizes(config, d_sae, d_in)
    tensors = {
        "W_enc": weights.tensor("encoder.weight", d_sae, d_in).T,
        "b_enc": weights.tensor("encoder.bias", d_sae),
        "W_dec": weights.tensor("W_dec", d_sae, d_in),
        "b_dec": weights.tensor("b_dec", d_in),
    }
    return tensors | ({"W_skip": weights.tensor("W_skip", d_in, d_in)} if skips else {})


def _check_sizes(config: Config, d_sae: int, d_in: int) -> None:
    config.size("d_in", d_in)
    if config.get("num_latents", int, 0):
        config.size("num_latents", d_sae)
    elif "expansion_factor" in config and d_in * config.get("expansion_factor", int) != d_sae:
        factor = clip(config.get("expansion_factor", int))
        raise SAELoadError(f"{config.file} says expansion_factor {factor}, but {d_in} inputs have {d_sae} features.")


def _activation(config: Config, overrides: Overrides, variant: str, d_sae: int) -> nn.Module:
    k = overrides.choose_k(config.get("k", int), d_sae, config.file)
    signed = config.get("signed", bool, False)
    if variant == "groupmax":
        return _group_max(config.file, k, d_sae, signed)
    # The library kept negative activations until 2024, when asked to; today's reads over the field.
    return TopK(k, by_magnitude=signed)


def _group_max(file: Path, k: int, d_sae: int, signed: bool) -> GroupMax:
    if signed:
        raise SAELoadError(f"{file} sets signed, which the activation groupmax does not have.")
    if d_sae % k:
        raise SAELoadError(f"{file} has k {k} for groupmax, but {d_sae} features do not make {k} equal groups.")
    return GroupMax(k)


def _site(place: Place, overrides: Overrides, is_transcoder: bool) -> Site:
    """A transcoder reads its module's input and predicts the output."""
    # With several seeds a coder lies one folder deeper.
    name = place.parts[1 if re.fullmatch(r"seed\d+", place.parts[0]) else 0]
    if hook_names.parse(name) == (None, None):
        return Site.find(overrides)
    if is_transcoder:
        return Site.find(overrides, name, read_as=f"{name}.input", out_name=name)
    return Site.find(overrides, name)
