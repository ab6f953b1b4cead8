"""SAELens 6 and later: a folder with ``cfg.json`` and ``sae_weights.safetensors``.

Formulas follow the library (github.com/decoderesearch/SAELens, ``sae_lens/saes``), with its scales folded at load:
gated SAEs and ``rescale_acts_by_decoder_norm`` become a plain encoder and decoder.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from jobs.engine.errors import SAELoadError
from jobs.engine.saes.activations import Gated, JumpReLU, TopK
from jobs.engine.saes.base import SAE, Overrides, Site, Source, digest_files
from jobs.engine.saes.norms import ConstantNorm, LayerNorm, Norm
from jobs.engine.saes.place import Place, pickles_in
from jobs.engine.saes.text import Config, clip
from jobs.engine.saes.weights import Weights, finite, open_weights

NAME = "saelens_v6"

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
MIN_GATE_SCALE = 1e-3
_SCALER = "activation_scaler.json"
_SAES = ("standard", "topk", "abstopk", "jumprelu", "gated")
_TRANSCODERS = ("transcoder", "skip_transcoder", "jumprelu_transcoder", "jumprelu_skip_transcoder")
_TRAINING_ONLY = ("batchtopk", "matryoshka_batchtopk")
FINISH = "it is a training checkpoint, so save it with SAELens' save_inference_model first"
# "expected_average_only_in" is folded into the weights before they are published, and ignored when they are loaded.
NORMS: dict[str, Norm | None] = {
    "none": None,
    "expected_average_only_in": None,
    "layer_norm": LayerNorm(),
    "constant_norm_rescale": ConstantNorm(),
}


@dataclass(frozen=True)
class Recipe:
    """The part of cfg.json that decides what the SAE computes. ``activation``: in place of the architecture's own."""

    format: str
    architecture: str
    apply_b_dec_to_input: bool
    norm: str
    k: int | None
    site: Site
    centred: bool
    model_name: str | None
    rescale_acts_by_decoder_norm: bool = False
    activation: nn.Module | None = None
    notes: tuple[str, ...] = ()

    @property
    def is_transcoder(self) -> bool:
        return self.architecture in _TRANSCODERS


def detect(place: Place) -> bool:
    """By file names. ``config.json`` or ``sae.safetensors`` in place of one of the two files mean other libraries.

    Beside a pickle ``cfg.json`` alone means nothing.
    """
    if not (place.has(CONFIG) and not place.has("sae.safetensors")):
        return place.has(WEIGHTS) and not place.has("config.json")
    if not place.has(WEIGHTS):
        return not pickles_in(place.path)
    config = Config(place.file(CONFIG))
    major = re.match(r"\d{1,4}", str(config.fields.get("sae_lens_version")))
    return "metadata" in config or bool(major and int(major[0]) >= 6)


def load(place: Place, overrides: Overrides) -> SAE:
    """Raises SAELoadError on anything that cannot be read as the library would, or that it reads wrongly itself."""
    config, weights = Config(place.file(CONFIG)), open_weights(place.file(WEIGHTS))
    return build(read_recipe(config, place, overrides), config, weights, overrides)


def read_recipe(config: Config, place: Place, overrides: Overrides) -> Recipe:
    """Parse and check cfg.json."""
    file, metadata = config.file, config.part("metadata")
    architecture = config.fields.get("architecture")
    if architecture in _TRAINING_ONLY:
        raise SAELoadError(f"{file} has the architecture {architecture}: {FINISH}.")
    architecture = config.choice("architecture", _SAES + _TRANSCODERS)
    is_transcoder = architecture in _TRANSCODERS
    norm = config.choice("normalize_activations", tuple(NORMS), "none")
    check_scale(norm, place)
    apply_b_dec_to_input = config.get("apply_b_dec_to_input", bool, not is_transcoder)
    if is_transcoder and apply_b_dec_to_input:
        raise SAELoadError(f"{file} sets apply_b_dec_to_input, but a transcoder's b_dec belongs to its output.")
    config.choice("reshape_activations", ("none", "hook_z"), "none")
    return Recipe(
        format=NAME,
        architecture=architecture,
        apply_b_dec_to_input=apply_b_dec_to_input,
        norm=norm,
        k=config.get("k", int) if architecture in ("topk", "abstopk") else None,
        site=Site.find(
            overrides,
            metadata.name("hook_name"),
            out_name=metadata.name("hook_name_out") if is_transcoder else None,
        ),
        centred=is_centred(metadata),
        model_name=metadata.name("model_name"),
        rescale_acts_by_decoder_norm=config.get("rescale_acts_by_decoder_norm", bool, False),
        notes=head_notes(metadata),
    )


def is_centred(config: Config) -> bool:
    """Whether the model was set up so that what writes to the residual stream has mean 0."""
    centred: bool = config.part("model_from_pretrained_kwargs").get("center_writing_weights", bool, False)
    return centred


def head_notes(config: Config, key: str = "hook_head_index") -> tuple[str, ...]:
    head = config.get(key, int)
    return () if head is None else (f"Reads head {clip(head)} alone ({key}): no single head can be read here.",)


def check_scale(norm: str, place: Place) -> None:
    """Raise SAELoadError where a scale of the input lies beside the weights: the library would not apply it."""
    if norm != "expected_average_only_in" or not place.has(_SCALER):
        return
    scaler = Config(place.file(_SCALER))
    for key, value in scaler.fields.items():
        if value is not None:
            raise SAELoadError(
                f"{scaler.file} has {clip(key)} {clip(value)}, for a scale of the input that is not in the weights "
                f"yet: {FINISH}."
            )


def build(recipe: Recipe, config: Config, weights: Weights, overrides: Overrides) -> SAE:
    """The SAE of ``recipe``, once the tensors are those of its architecture and fit each other and the config."""
    tensors = _tensors(recipe, config, weights)
    d_sae = tensors["W_enc"].shape[1]
    source = Source(
        format=recipe.format,
        architecture=recipe.architecture,
        digest=digest_files(config.file, weights.file),
        dtype_on_disk=weights.dtype_name("W_enc"),
        path=weights.file.parent,
        files=(config.file, weights.file),
        site=recipe.site,
        is_transcoder=recipe.is_transcoder,
        centred=recipe.centred,
        model_name=recipe.model_name,
        notes=recipe.notes,
    )
    return SAE(
        source,
        activation=_activation(recipe, overrides, tensors, config.file, d_sae),
        **tensors,
        pre_bias=tensors["b_dec"] if recipe.apply_b_dec_to_input else None,
        norm=NORMS[recipe.norm],
        undo_norm=not recipe.is_transcoder,
    )


def _tensors(recipe: Recipe, config: Config, weights: Weights) -> dict[str, Tensor]:
    """The tensors of the architecture, with the shapes that its biases ask for."""
    b_enc = ("b_gate", "b_mag", "r_mag") if recipe.architecture == "gated" else ("b_enc",)
    threshold = ("threshold",) if recipe.architecture.startswith("jumprelu") else ()
    skip = ("W_skip",) if "skip" in recipe.architecture else ()
    if "log_threshold" in weights:
        raise SAELoadError(f"{weights.file} holds log_threshold: {FINISH}.")
    names = ("W_enc", "W_dec", "b_dec", *b_enc, *threshold, *skip)
    weights.only(*names, optional=("scaling_factor",) if recipe.format != NAME else ())
    d_sae, d_out = weights.length(b_enc[0]), weights.length("b_dec")
    d_in = weights.rows("W_enc") if recipe.is_transcoder else d_out
    for name, size in (("d_in", d_in), ("d_sae", d_sae), ("d_out", d_out)):
        config.size(name, size)
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_out), "b_dec": (d_out,)}
    shapes |= dict.fromkeys(skip, (d_out, d_in)) | dict.fromkeys(b_enc + threshold, (d_sae,))
    return {name: weights.tensor(name, *shapes[name]) for name in names}


def _activation(recipe: Recipe, overrides: Overrides, tensors: dict[str, Tensor], file: Path, d_sae: int) -> nn.Module:
    """Takes out of ``tensors`` what belongs to the activation function, and folds scales into the rest."""
    if recipe.architecture in ("topk", "abstopk"):
        k = overrides.choose_k(recipe.k, d_sae, file)
        if recipe.rescale_acts_by_decoder_norm:
            fold_decoder_norms(tensors, file.parent)
        return TopK(k, by_magnitude=recipe.architecture == "abstopk")
    overrides.no_k(file, recipe.architecture)
    if recipe.architecture == "gated":
        return fold_gate(tensors, file.parent)
    if "threshold" in tensors:
        return JumpReLU(tensors.pop("threshold"))
    return recipe.activation or nn.ReLU(inplace=True)


def fold_gate(tensors: dict[str, Tensor], path: Path) -> nn.Module:
    """Write a gated SAE as JumpReLU, which it equals (Rajamanoharan et al. 2024, arXiv 2404.16014).

    With e = h @ W_enc it fires where e + b_gate > 0, with relu(p), p = exp(r_mag) * e + b_mag. The gate is
    p > b_mag - exp(r_mag) * b_gate, since exp(r_mag) > 0. Where exp(r_mag) is small, e is lost in p's rounding: such
    SAEs keep the gate. Leaves W_enc and b_enc in ``tensors``.
    """
    scale, b_gate, b_mag = (tensors.pop(name) for name in ("r_mag", "b_gate", "b_mag"))
    scale = finite(scale.exp(), f"r_mag in {path}")
    threshold = finite(b_mag - scale * b_gate, f"r_mag in {path}")
    if scale.min() < MIN_GATE_SCALE:
        tensors["b_enc"] = b_gate
        return Gated(scale, threshold)
    tensors["b_enc"] = b_mag
    tensors["W_enc"] = finite(tensors["W_enc"].mul_(scale), f"r_mag in {path}")
    return JumpReLU(threshold)


def fold_decoder_norms(tensors: dict[str, Tensor], path: Path) -> None:
    """Activations include the decoder norms n: f = act(p * n), y = (f / n) @ W_dec. A zero row of W_dec stays zero."""
    norm = finite(tensors["W_dec"].norm(dim=1), f"the norm of W_dec in {path}")
    tensors["W_enc"].mul_(norm)
    tensors["b_enc"].mul_(norm)
    tensors["W_dec"].div_(torch.where(norm == 0, 1.0, norm)[:, None])
