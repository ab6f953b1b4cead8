"""dictionary_learning: a folder with ``config.json`` and ``ae.pt``, the state dict of the class that the config names.

Formulas follow the library's ``load_dictionary`` (github.com/saprmarks/dictionary_learning), without the rescaling to
decoder norms of 1 that it does by default: activations are those of the weights as they are stored.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jobs.engine.errors import SAELoadError
from jobs.engine.saes.activations import JumpReLU, TopK
from jobs.engine.saes.base import SAE, Overrides, Site, Source, digest_files
from jobs.engine.saes.place import Place
from jobs.engine.saes.saelens_v6 import fold_gate
from jobs.engine.saes.text import Config, clip
from jobs.engine.saes.weights import Weights, open_weights

NAME = "dictionary_learning"

CONFIG, WEIGHTS = "config.json", "ae.pt"
MAX_LAYER = 10_000


@dataclass(frozen=True)
class _Kind:
    """``vectors``: our names and the file's, the first of them [F], b_dec [d]. ``subtracts``: b_dec, off the input.

    ``linear``: whether the matrices are those of linear layers, [F, d] and [d, F], or [d, F] and [F, d].
    """

    architecture: str
    vectors: dict[str, str]
    linear: bool = True
    subtracts: bool = True
    numbers: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    @property
    def matrices(self) -> tuple[str, str]:
        return ("encoder.weight", "decoder.weight") if self.linear else ("W_enc", "W_dec")


_GATED = {"b_gate": "gate_bias", "b_mag": "mag_bias", "r_mag": "r_mag", "b_dec": "decoder_bias"}
_LINEAR = {"b_enc": "encoder.bias", "b_dec": "b_dec"}
_PLAIN = {"b_enc": "b_enc", "b_dec": "b_dec"}
_KINDS = {
    "AutoEncoder": _Kind("standard", {"b_enc": "encoder.bias", "b_dec": "bias"}),
    "AutoEncoderNew": _Kind("standard", {"b_enc": "encoder.bias", "b_dec": "decoder.bias"}, subtracts=False),
    "GatedAutoEncoder": _Kind("gated", _GATED),
    "AutoEncoderTopK": _Kind("topk", _LINEAR, optional=("k", "threshold")),
    "BatchTopKSAE": _Kind("batchtopk", _LINEAR, numbers=("threshold",), optional=("k",)),
    "MatryoshkaBatchTopKSAE": _Kind(
        "matryoshka_batchtopk", _PLAIN, linear=False, numbers=("threshold",), optional=("k", "group_sizes")
    ),
    "JumpReluAutoEncoder": _Kind("jumprelu", _PLAIN | {"threshold": "threshold"}, linear=False, subtracts=False),
}

_SUBMODULE = re.compile(r"(resid_pre|resid_mid|resid_post|mlp_out|attn_out|attention_out)_layer_?(\d{1,4})", re.ASCII)
_RESCALED = "The library itself by default multiplies these activations by the decoder norms, for the same output."
_NO_THRESHOLD = "Its threshold was never set in training: it acts as a ReLU."


def detect(place: Place) -> bool:
    return place.has(WEIGHTS)


def load(place: Place, overrides: Overrides) -> SAE:
    """Raises SAELoadError, also on an interrupted run and where config and weights contradict each other."""
    config, weights = Config(place.file(CONFIG)), open_weights(place.file(WEIGHTS))
    if "ae" in weights.names:
        raise SAELoadError(
            f"{weights.file} is the state of an interrupted run, with biases that are not scaled back yet: "
            "let the run finish, which writes the weights alone."
        )
    # Runs without a language model write empty names.
    trainer = Config(config.file, {k: v for k, v in config.part("trainer").fields.items() if v != ""})
    dict_class = trainer.choice("dict_class", tuple(_KINDS))
    kind = _KINDS[dict_class]
    tensors = _tensors(kind, trainer, weights)
    activation = _activation(kind, trainer, weights, overrides, tensors)
    source = Source(
        format=NAME,
        architecture=kind.architecture,
        digest=digest_files(config.file, weights.file),
        dtype_on_disk=weights.dtype_name(kind.matrices[0]),
        path=place.path,
        files=(config.file, weights.file),
        site=_site(config, trainer, overrides),
        variant=dict_class,
        model_name=trainer.name("lm_name"),
        notes=_notes(dict_class, kind, weights),
    )
    pre_bias = tensors["b_dec"] if kind.subtracts else None
    return SAE(source, activation=activation, **tensors, pre_bias=pre_bias, norm=None, undo_norm=False)


def _tensors(kind: _Kind, trainer: Config, weights: Weights) -> dict[str, Tensor]:
    encoder, decoder = kind.matrices
    weights.only(encoder, decoder, *kind.vectors.values(), *kind.numbers, optional=kind.optional)
    d_sae, d_in = weights.length(next(iter(kind.vectors.values()))), weights.length(kind.vectors["b_dec"])
    trainer.size("activation_dim", d_in)
    trainer.size("dict_size", d_sae)
    if "group_sizes" in weights and (sum(sizes := weights.integers("group_sizes")) != d_sae or min(sizes) < 1):
        raise SAELoadError(f"{weights.file} holds group_sizes {clip(sizes)}, which do not make up {d_sae} features.")
    shape, transposed = (d_in, d_sae), (d_sae, d_in)
    W_enc = weights.tensor(encoder, *transposed).T if kind.linear else weights.tensor(encoder, *shape)
    W_dec = weights.tensor(decoder, *shape).T if kind.linear else weights.tensor(decoder, *transposed)
    vectors = {n: weights.tensor(theirs, d_in if n == "b_dec" else d_sae) for n, theirs in kind.vectors.items()}
    return {"W_enc": W_enc, "W_dec": W_dec, **vectors}


def _activation(
    kind: _Kind, trainer: Config, weights: Weights, overrides: Overrides, tensors: dict[str, Tensor]
) -> nn.Module:
    """Takes out of ``tensors`` what belongs to the activation function."""
    d_sae = tensors["W_enc"].shape[1]
    if "k" in kind.optional:
        k = _stated_k(kind, trainer, weights, overrides)
        if kind.architecture == "topk":
            return TopK(overrides.choose_k(k, d_sae, trainer.file))
    overrides.no_k(trainer.file, kind.architecture)
    if kind.architecture == "gated":
        return fold_gate(tensors, weights.file)
    if "threshold" in kind.numbers:
        return JumpReLU(torch.full((d_sae,), weights.number("threshold")))
    return JumpReLU(tensors.pop("threshold")) if "threshold" in tensors else nn.ReLU(inplace=True)


def _stated_k(kind: _Kind, trainer: Config, weights: Weights, overrides: Overrides) -> int | None:
    """k of the weights or the config. Where they differ the library refuses too, whether it needs k or not."""
    stated: int | None = trainer.get("k", int)
    if "k" not in weights.names:
        return stated
    held = weights.number("k")
    if held != int(held):
        raise SAELoadError(f"{weights.file} holds k {held}, which is no whole number.")
    needed = kind.architecture == "topk"
    if stated not in (None, int(held)) and not (needed and overrides.k is not None):
        raise SAELoadError(
            f"{trainer.file} says k {clip(stated)}, but {weights.file} holds k {int(held)}: they do not belong "
            f"together, so take both from one run{', or give k' if needed else ''}."
        )
    return int(held)


def _site(config: Config, trainer: Config, overrides: Overrides) -> Site:
    name, layer = trainer.name("submodule_name"), trainer.get("layer", int)
    if layer is not None and not 0 <= layer < MAX_LAYER:
        raise SAELoadError(f"{config.file} says that the SAE reads layer {clip(layer)}, which no model has.")
    side = config.part("buffer").get("io", str, "out")
    if side == "in_and_out":
        raise SAELoadError(f"{config.file} has io 'in_and_out': a transcoder, which this format does not describe.")
    match = _SUBMODULE.fullmatch(name or "")
    if match is None or side != "out":
        return Site.find(overrides, name if side == "out" else None, layer=layer)
    if layer not in (None, int(match[2])) and overrides.layer is None:
        raise SAELoadError(f"{config.file} says layer {layer} and submodule_name {clip(name)}: give layer.")
    word = match[1].replace("attention", "attn")
    return Site.find(overrides, name, read_as=word, layer=int(match[2]) if layer is None else layer)


def _notes(dict_class: str, kind: _Kind, weights: Weights) -> tuple[str, ...]:
    if dict_class == "AutoEncoder":
        return (_RESCALED,)
    return (_NO_THRESHOLD,) if "threshold" in kind.numbers and weights.number("threshold") < 0 else ()
