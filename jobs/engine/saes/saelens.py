"""SAELens 6 and later: a folder with ``cfg.json`` and ``sae_weights.safetensors``.

Formulas follow the library (github.com/jbloomAus/SAELens, ``sae_lens/saes``), with its scales folded at load:
gated SAEs and ``rescale_acts_by_decoder_norm`` become a plain encoder and decoder.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jobs.engine.errors import SAELoadError
from jobs.engine.saes.base import (
    SAE,
    ConstantNorm,
    JumpReLU,
    LayerNorm,
    Norm,
    Overrides,
    Source,
    TensorInfo,
    TopK,
    check_hook_name,
    clip,
    digest_files,
    dtype_name,
    finite,
    read_header,
    read_json_object,
    read_tensors,
)

HINT = "a SAELens folder with cfg.json and sae_weights.safetensors"

_CONFIG, _WEIGHTS, _SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"
_SAES = ("standard", "topk", "abstopk", "jumprelu", "gated")
_TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
_TRAINING_ONLY = ("batchtopk", "matryoshka_batchtopk")
_FINISH = "it is a training checkpoint, so save it with SAELens' save_inference_model first"
# "expected_average_only_in" is folded into the weights before they are published, and ignored when they are loaded.
_NORMS: dict[str, Norm | None] = {
    "none": None,
    "expected_average_only_in": None,
    "layer_norm": LayerNorm(),
    "constant_norm_rescale": ConstantNorm(),
}
# TransformerLens' names for points that have the same meaning here. Others (hook_mlp_in, ln2.hook_normalized) keep
# their own name: what they hold depends on how that library sets the model up.
_HOOKS = {
    "hook_resid_pre": "resid_pre",
    "hook_resid_mid": "resid_mid",
    "hook_resid_post": "resid_post",
    "hook_attn_out": "attn_out",
    "hook_mlp_out": "mlp_out",
    "attn.hook_z": "z",
    "mlp.hook_post": "mlp_act",
}
_HOOK_NAME = re.compile(r"blocks\.(\d{1,4})\.([\w.]{1,100})", re.ASCII)


@dataclass(frozen=True)
class Config:
    """The part of cfg.json that decides what the SAE computes."""

    architecture: str
    sizes: dict[str, int]  # d_in, d_sae, d_out as far as they are stated
    apply_b_dec_to_input: bool
    normalize_activations: str
    rescale_acts_by_decoder_norm: bool
    k: int | None
    hook_name: str | None

    @property
    def is_transcoder(self) -> bool:
        return self.architecture in _TRANSCODERS


def detect(path: Path) -> bool:
    """By file names. ``config.json`` or ``sae.safetensors`` in place of one of the two files mean other libraries."""
    config, weights = path / _CONFIG, path / _WEIGHTS
    return (weights.is_file() and not (path / "config.json").is_file()) or (
        config.is_file() and not (path / "sae.safetensors").is_file()
    )


def load(path: Path, overrides: Overrides) -> SAE:
    """Raises SAELoadError on anything that cannot be read as the library would, or that it reads wrongly itself."""
    file = path / _WEIGHTS
    for needed in (path / _CONFIG, file):
        if not needed.is_file():
            raise SAELoadError(f"{needed} is missing: a SAELens checkpoint has {_CONFIG} and {_WEIGHTS}.")
    config = read_config(path)
    header = read_header(file)
    shapes = _expected_shapes(config, header, file)
    _check_shapes(config, header, shapes, path)
    k = _choose_k(config, overrides.k, shapes["W_enc"][1], path / _CONFIG)
    tensors = read_tensors(file, shapes)
    layer, hook = _place(config.hook_name, overrides)
    dtype = dtype_name(header["W_enc"])
    digest = digest_files(path / _CONFIG, file)
    source = Source(path, "saelens", config.architecture, digest, dtype, config.hook_name, hook, layer)
    return _build(config, k, tensors, source)


def read_config(path: Path) -> Config:
    """Parse and check cfg.json."""
    file = path / _CONFIG
    cfg = read_json_object(file)
    metadata = _metadata(cfg, file)
    architecture = _field(cfg, "architecture", str, None, file)
    if architecture in _TRAINING_ONLY:
        raise SAELoadError(f"{file} has the architecture {architecture}: {_FINISH}.")
    if architecture not in _SAES + _TRANSCODERS:
        known = ", ".join(_SAES + _TRANSCODERS)
        raise SAELoadError(f"{file} has the architecture {clip(architecture)}, which is not one of {known}.")
    is_transcoder = architecture in _TRANSCODERS
    config = Config(
        architecture=architecture,
        sizes={n: v for n in ("d_in", "d_sae", "d_out") if (v := _field(cfg, n, int, None, file)) is not None},
        apply_b_dec_to_input=_field(cfg, "apply_b_dec_to_input", bool, not is_transcoder, file),
        normalize_activations=_field(cfg, "normalize_activations", str, "none", file),
        rescale_acts_by_decoder_norm=_field(cfg, "rescale_acts_by_decoder_norm", bool, False, file),
        k=_field(cfg, "k", int, None, file) if architecture in ("topk", "abstopk") else None,
        hook_name=check_hook_name(metadata.get("hook_name"), f"hook_name in {file}"),
    )
    if is_transcoder and config.apply_b_dec_to_input:
        raise SAELoadError(f"{file} sets apply_b_dec_to_input, but a transcoder's b_dec belongs to its output.")
    if (shape := _field(cfg, "reshape_activations", str, "none", file)) not in ("none", "hook_z"):
        raise SAELoadError(f"{file} has reshape_activations {clip(shape)}, which is neither none nor hook_z.")
    _check_norm(config, path)
    return config


def _metadata(cfg: dict[str, Any], file: Path) -> dict[str, Any]:
    metadata = cfg.get("metadata")
    if isinstance(metadata, dict):
        return metadata
    major = re.match(r"\d{1,4}", str(cfg.get("sae_lens_version")))
    if metadata is None and major and int(major[0]) >= 6:
        return {}
    if metadata is None:
        raise SAELoadError(
            f"{file} has no metadata: SAELens wrote it before version 6; load and save it with SAELens 6."
        )
    raise SAELoadError(f"{file} has metadata that is no JSON object but {clip(metadata)}.")


def _field(cfg: dict[str, Any], name: str, kind: type, default: Any, file: Path) -> Any:
    """cfg[name] if it is exactly a ``kind``; absent and null mean ``default``."""
    value = cfg.get(name)
    if value is None:
        return default
    if type(value) is not kind:
        raise SAELoadError(f"{file} has {name} {clip(value)}, which is no {kind.__name__}.")
    return value


def _check_norm(config: Config, path: Path) -> None:
    norm = config.normalize_activations
    if norm not in _NORMS:
        raise SAELoadError(f"{path / _CONFIG} has normalize_activations {clip(norm)}; known are {', '.join(_NORMS)}.")
    scaler = path / _SCALER
    if norm == "expected_average_only_in" and scaler.is_file() and read_json_object(scaler).get("scaling_factor"):
        raise SAELoadError(f"{scaler} holds a scale of the input that is not in the weights yet: {_FINISH}.")


def _expected_shapes(config: Config, header: dict[str, TensorInfo], file: Path) -> dict[str, tuple[int, ...]]:
    """The tensors of the architecture. Sizes come from the biases, which unlike matrices have no orientation."""
    b_enc = ("b_gate", "b_mag", "r_mag") if config.architecture == "gated" else ("b_enc",)
    threshold = ("threshold",) if config.architecture.startswith("jumprelu") else ()
    skip = ("W_skip",) if "skip" in config.architecture else ()
    if "log_threshold" in header:
        raise SAELoadError(f"{file} holds log_threshold: {_FINISH}.")
    for name in ("W_enc", "W_dec", "b_dec", *b_enc, *threshold, *skip):
        if name not in header:
            raise SAELoadError(f"{file} has no tensor {name}, which the architecture {config.architecture} needs.")
    d_sae, d_out = math.prod(header[b_enc[0]].shape), math.prod(header["b_dec"].shape)
    d_in = next(iter(header["W_enc"].shape), 0) if config.is_transcoder else d_out
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_out), "b_dec": (d_out,)}
    return shapes | dict.fromkeys(skip, (d_out, d_in)) | dict.fromkeys(b_enc + threshold, (d_sae,))


def _check_shapes(
    config: Config, header: dict[str, TensorInfo], shapes: dict[str, tuple[int, ...]], path: Path
) -> None:
    file = path / _WEIGHTS
    if unknown := sorted(header.keys() - shapes.keys()):
        raise SAELoadError(f"{file} holds {clip(unknown[0])}, which the architecture {config.architecture} has not.")
    for name, shape in shapes.items():
        if (found := header[name].shape) != shape:
            hint = "it is stored transposed" if found == shape[::-1] else "the files do not belong together"
            raise SAELoadError(f"{file} holds {name} as {list(found)} where the biases ask for {list(shape)}: {hint}.")
        if 0 in shape:
            raise SAELoadError(f"{file} holds an empty {name}.")
    d_in, d_sae = shapes["W_enc"]
    for name, size in (("d_in", d_in), ("d_sae", d_sae), ("d_out", shapes["b_dec"][0])):
        if (stated := config.sizes.get(name, size)) != size:
            raise SAELoadError(f"{path / _CONFIG} says {name} {clip(stated)}, but {file} holds weights for {size}.")


def _choose_k(config: Config, given: int | None, d_sae: int, file: Path) -> int | None:
    if config.architecture not in ("topk", "abstopk"):
        if given is not None:
            raise SAELoadError(f"k was given for {file}, but its architecture {config.architecture} has no k.")
        return None
    k = config.k if given is None else given
    if k is None:
        raise SAELoadError(f"{file} has no k, which the architecture {config.architecture} needs: give k.")
    if not 1 <= k <= d_sae:
        raise SAELoadError(f"k is {clip(k)} for {file}, but must be from 1 to its {d_sae} features.")
    return k


def _place(hook_name: str | None, overrides: Overrides) -> tuple[int | None, str | None]:
    """(layer, short hook name) from the overrides, then from the file."""
    layer, hook = _parse_hook_name(hook_name)
    if overrides.hook is not None:
        given_layer, given_hook = _parse_hook_name(overrides.hook)
        layer = layer if given_layer is None else given_layer
        hook = overrides.hook if given_hook is None else given_hook
    return (layer if overrides.layer is None else overrides.layer), hook


def _parse_hook_name(name: str | None) -> tuple[int | None, str | None]:
    match = _HOOK_NAME.fullmatch(name or "")
    return (int(match[1]), _HOOKS.get(match[2], match[2])) if match else (None, None)


def _build(config: Config, k: int | None, tensors: dict[str, Tensor], source: Source) -> SAE:
    if config.architecture == "gated":
        _fold_gate(tensors, source.path)
    if k is not None and config.rescale_acts_by_decoder_norm:
        _fold_decoder_norms(tensors, source.path)
    activation: nn.Module = nn.ReLU(inplace=True)
    if k is not None:
        activation = TopK(k, by_magnitude=config.architecture == "abstopk")
    elif "threshold" in tensors:
        activation = JumpReLU(tensors.pop("threshold"))
    return SAE(
        source,
        **tensors,
        activation=activation,
        pre_bias=tensors["b_dec"] if config.apply_b_dec_to_input else None,
        norm=_NORMS[config.normalize_activations],
        undo_norm=not config.is_transcoder,
    )


def _fold_gate(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a gated SAE as JumpReLU, which it equals (Rajamanoharan et al. 2024, arXiv 2404.16014).

    With e = h @ W_enc it fires where e + b_gate > 0, with relu(p), p = exp(r_mag) * e + b_mag. The gate is
    p > b_mag - exp(r_mag) * b_gate, since exp(r_mag) > 0.
    """
    scale = tensors.pop("r_mag").exp()
    tensors["b_enc"] = tensors.pop("b_mag")
    tensors["threshold"] = finite(tensors["b_enc"] - scale * tensors.pop("b_gate"), f"r_mag in {path / _WEIGHTS}")
    tensors["W_enc"] = finite(tensors["W_enc"].mul_(scale), f"r_mag in {path / _WEIGHTS}")


def _fold_decoder_norms(tensors: dict[str, Tensor], path: Path) -> None:
    """Activations include the decoder norms n: f = act(p * n), y = (f / n) @ W_dec. A zero row of W_dec stays zero."""
    norm = finite(tensors["W_dec"].norm(dim=1), f"the norm of W_dec in {path / _WEIGHTS}")
    tensors["W_enc"].mul_(norm)
    tensors["b_enc"].mul_(norm)
    tensors["W_dec"].div_(torch.where(norm == 0, 1.0, norm)[:, None])
