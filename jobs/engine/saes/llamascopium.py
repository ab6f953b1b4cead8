"""Llamascopium (OpenMOSS): a folder with ``config.json`` and ``sae_weights.safetensors``, whose encoder is W_E.

With fi = sqrt(d) / the dataset's average norm at the input, fo likewise at the output, and n = the norms of W_D's
rows, or 1 without ``sparsity_include_decoder_norm`` (github.com/OpenMOSS/Language-Model-SAEs):

    p = (x * fi) @ W_E + b_E,  f = p where the activation function keeps p * n,  y = (f @ W_D + b_D) / fo

fi and fo are folded into the weights, so features stay in the units they were trained in. The library can fold fi into
the features too, but then compares them with an unscaled threshold: another function, which is not read here.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jobs.engine.errors import SAELoadError
from jobs.engine.saes.activations import JumpReLU, TopK
from jobs.engine.saes.base import SAE, Overrides, Site, Source, digest_files
from jobs.engine.saes.place import Place
from jobs.engine.saes.text import Config
from jobs.engine.saes.weights import Weights, finite, open_weights

NAME = "llamascopium"

CONFIG, WEIGHTS = "config.json", "sae_weights.safetensors"
DATASET_NORM = "dataset_average_activation_norm"
FOLDED = "dataset-wise, folded into the weights"
ARCHITECTURES = {"relu": "standard", "jumprelu": "jumprelu", "topk": "topk"}
_LM_CONFIG = "lm_config.json"
_NEVER = torch.finfo(torch.float32).max  # a threshold that nothing passes


@dataclass(frozen=True)
class Folder:
    """A checkpoint of OpenMOSS' libraries, opened. ``act_fn`` is one of ARCHITECTURES."""

    format: str
    place: Place
    overrides: Overrides
    config: Config
    weights: Weights
    act_fn: str
    hook_in: str
    hook_out: str

    @classmethod
    def open(cls, format: str, place: Place, overrides: Overrides, names: tuple[str, str], *known: str) -> "Folder":
        """``names`` of config and weights; ``known`` of the format are these activation functions."""
        config, weights = Config(place.file(names[0])), open_weights(place.file(names[1]))
        if config.get("use_glu_encoder", bool, False):
            raise SAELoadError(f"{config.file} sets use_glu_encoder: SAEs with a gated linear encoder cannot be read.")
        act_fn = config.choice("act_fn", known)
        if (hook_in := config.name("hook_point_in")) is None:
            raise SAELoadError(f"{config.file} has no hook_point_in, which its format needs.")
        hook_out = config.name("hook_point_out") or hook_in
        return cls(format, place, overrides, config, weights, act_fn, hook_in, hook_out)

    @property
    def is_transcoder(self) -> bool:
        return self.hook_in != self.hook_out

    @property
    def norm_activation(self) -> str:
        """Other than the known, it depends on the token or on its batch."""
        return self.config.choice("norm_activation", ("dataset-wise", "inference"), "dataset-wise")

    @property
    def gate_sees_norms(self) -> bool:
        flag: bool = self.config.get("sparsity_include_decoder_norm", bool, True)
        return flag

    def has_decoder_bias(self, name: str) -> bool:
        """Raises SAELoadError where config and tensors contradict each other."""
        stated: bool = self.config.get("use_decoder_bias", bool, name in self.weights)
        if stated != (name in self.weights):
            there = "holds" if name in self.weights else "does not hold"
            raise SAELoadError(
                f"{self.config.file} has use_decoder_bias {stated}, but {self.weights.file} {there} {name}."
            )
        return stated

    def scale(self, norm: float, d: int, where: str) -> float:
        """sqrt(d) / ``norm``, the average norm of activations over a dataset."""
        if norm <= 0:
            raise SAELoadError(f"{where} is {norm:.6g}, which no norm can be: take a checkpoint with its norms set.")
        return math.sqrt(d) / norm

    def source(self, weight: str, normalisation: str | None) -> Source:
        """``weight``: the tensor whose dtype is told."""
        architecture = ARCHITECTURES[self.act_fn]
        if self.is_transcoder:
            architecture = "transcoder" if self.act_fn == "relu" else f"{architecture}_transcoder"
        lm_config = Config(self.place.file(_LM_CONFIG)) if self.place.has(_LM_CONFIG) else None
        out_name = self.hook_out if self.is_transcoder else None
        return Source(
            format=self.format,
            architecture=architecture,
            digest=digest_files(self.config.file, self.weights.file),
            dtype_on_disk=self.weights.dtype_name(weight),
            path=self.place.path,
            files=(self.config.file, self.weights.file),
            site=Site.find(self.overrides, self.hook_in, out_name=out_name),
            variant=self.act_fn,
            normalisation=normalisation,
            is_transcoder=self.is_transcoder,
            model_name=lm_config.name("model_name") if lm_config else None,
        )


@dataclass(frozen=True)
class Layout:
    """Names of tensors. ``transposed``: matrices are stored as [outputs, inputs], as torch's Linear has them."""

    W_enc: str
    b_enc: str
    W_dec: str
    b_dec: str
    log_threshold: str
    transposed: bool = False


_LAYOUT = Layout("W_E", "b_E", "W_D", "b_D", "activation_function.log_jumprelu_threshold")


def detect(place: Place) -> bool:
    return place.has(CONFIG, WEIGHTS) and _LAYOUT.W_enc in open_weights(place.file(WEIGHTS))


def load(place: Place, overrides: Overrides) -> SAE:
    """Raises SAELoadError on what depends on other tokens (batchtopk), on other dictionaries, and on contradictions."""
    return build(Folder.open(NAME, place, overrides, (CONFIG, WEIGHTS), *ARCHITECTURES), _LAYOUT)


def build(folder: Folder, layout: Layout) -> SAE:
    """The SAE whose tensors have the names of ``layout``. Raises SAELoadError as ``load`` does."""
    folder.config.choice("sae_type", ("sae",))
    dataset_wise = folder.norm_activation == "dataset-wise"
    tensors = _tensors(folder, layout)
    activation = _activation(folder, tensors)  # first, for it needs the norms of the decoder as it is stored
    if dataset_wise:
        _fold_scales(folder, tensors)
    return SAE(
        folder.source(layout.W_enc, FOLDED if dataset_wise else None),
        W_enc=tensors["W_enc"],
        b_enc=tensors["b_enc"],
        W_dec=tensors["W_dec"],
        b_dec=tensors["b_dec"],
        activation=activation,
    )


def _tensors(folder: Folder, layout: Layout) -> dict[str, Tensor]:
    """Of the file's shapes, once they agree with the config. Norms of the dataset may be there, whatever is in them."""
    config, weights = folder.config, folder.weights
    biased, jumps = folder.has_decoder_bias(layout.b_dec), folder.act_fn == "jumprelu"
    if layout.log_threshold in weights and not jumps:
        raise SAELoadError(
            f"{config.file} has act_fn {folder.act_fn}, but {weights.file} holds {layout.log_threshold}."
        )
    weights.only(
        *(layout.W_enc, layout.b_enc, layout.W_dec),
        *((layout.b_dec,) if biased else ()),
        *((layout.log_threshold,) if jumps else ()),
        optional=tuple(name for name in weights.names if name.startswith(f"{DATASET_NORM}.")),
    )
    size = weights.rows if layout.transposed else weights.columns
    d, d_sae = weights.length(layout.b_dec) if biased else size(layout.W_dec), weights.length(layout.b_enc)
    check_sizes(config, d, d_sae)
    tensors = {
        "W_enc": _matrix(weights, layout.W_enc, d, d_sae, layout.transposed),
        "b_enc": weights.tensor(layout.b_enc, d_sae),
        "W_dec": _matrix(weights, layout.W_dec, d_sae, d, layout.transposed),
        "b_dec": weights.tensor(layout.b_dec, d) if biased else torch.zeros(d),
    }
    return tensors | ({"log_threshold": weights.tensor(layout.log_threshold, d_sae)} if jumps else {})


def _matrix(weights: Weights, name: str, inputs: int, outputs: int, transposed: bool) -> Tensor:
    return weights.tensor(name, outputs, inputs).T if transposed else weights.tensor(name, inputs, outputs)


def check_sizes(config: Config, d: int, d_sae: int) -> None:
    """Not all store d_sae: the library takes the whole part of d_model * expansion_factor."""
    config.size("d_model", d)
    config.size("d_sae", d_sae)
    factor = config.get("expansion_factor", float)
    if factor is not None and not d_sae <= d * factor < d_sae + 1:
        raise SAELoadError(
            f"{config.file} says expansion_factor {factor:g}, but the weights make {d_sae} features of {d} inputs."
        )


def _activation(folder: Folder, tensors: dict[str, Tensor]) -> nn.Module:
    """Features whose decoder row is zero never fire where the norms gate them."""
    norm = None
    if folder.gate_sees_norms:
        norm = finite(tensors["W_dec"].norm(dim=1), f"the norm of the decoder in {folder.weights.file}")
    if folder.act_fn == "jumprelu":
        folder.overrides.no_k(folder.config.file, folder.act_fn)
        return JumpReLU(_threshold(tensors.pop("log_threshold").exp(), norm))
    if norm is not None:
        tensors["W_enc"][:, norm == 0] = 0
        tensors["b_enc"][norm == 0] = 0
    if folder.act_fn == "topk":
        k = folder.overrides.choose_k(folder.config.get("top_k", int), len(tensors["b_enc"]), folder.config.file)
        return TopK(k, rank_by=norm)
    folder.overrides.no_k(folder.config.file, folder.act_fn)
    return nn.ReLU(inplace=True)


def _threshold(threshold: Tensor, norm: Tensor | None) -> Tensor:
    """p * n > t, as p > t / n."""
    if norm is not None:
        threshold = torch.where(norm == 0, _NEVER, threshold / norm)
    return threshold.clamp(max=_NEVER)


def _fold_scales(folder: Folder, tensors: dict[str, Tensor]) -> None:
    file, d = folder.weights.file, len(tensors["b_dec"])
    names = [f"{DATASET_NORM}.{hook}" for hook in (folder.hook_in, folder.hook_out)]
    if missing := [name for name in names if name not in folder.weights]:
        raise SAELoadError(f"{file} has no tensor {missing[0]}, which norm_activation dataset-wise needs.")
    scale_in, scale_out = (folder.scale(folder.weights.number(n), d, f"{n} in {file}") for n in names)
    tensors["W_enc"].mul_(scale_in)
    tensors["W_dec"].div_(scale_out)
    tensors["b_dec"].div_(scale_out)
    for tensor in tensors.values():
        finite(tensor, f"a weight scaled by {DATASET_NORM} in {file}")
