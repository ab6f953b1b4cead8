"""OpenAI's sparse autoencoders (Gao et al. 2024, arXiv 2406.04093): ``{location}/autoencoders/{layer}.pt``.

    p = (h - pre_bias) @ encoder.weight.T + latent_bias,  y = f @ decoder.weight.T + pre_bias

ReLU: h = x. TopK: h = x with layer norm, which is undone in y; the file says so by the name of the activation alone
(github.com/openai/sparse_autoencoder). The location and the layer are only in the path.
"""

import re

from torch import nn

from jobs.engine.errors import SAELoadError
from jobs.engine.saes.activations import TopK
from jobs.engine.saes.base import SAE, Overrides, Site, Source, digest_files
from jobs.engine.saes.norms import LayerNorm
from jobs.engine.saes.place import Place
from jobs.engine.saes.text import Config, clip
from jobs.engine.saes.weights import PICKLES, Weights

NAME = "openai"

_TENSORS = ("pre_bias", "latent_bias", "encoder.weight", "decoder.weight")
_STATISTICS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")
_ACTIVATION, _STATE = "activation", "activation_state_dict"
_TWICE: dict[str, type] = {"activation.k": int, "activation.postact_fn": str}
_LOCATIONS = {
    "resid_post_mlp": "resid_post",
    "resid_post_attn": "resid_mid",
    "resid_delta_mlp": "mlp_out",
    "resid_delta_attn": "attn_out",
    "mlp_post_act": "mlp_act",
}
_FOLDER = re.compile(rf"({'|'.join(_LOCATIONS)})(?:_v\d+(?:_\w+)?)?", re.ASCII)


def detect(place: Place) -> bool:
    return place.path.suffix in PICKLES and place.is_file and {"pre_bias", "latent_bias"} <= place.weights.names


def load(place: Place, overrides: Overrides) -> SAE:
    """Raises SAELoadError on activations other than ReLU and TopK: the library took any other for ReLU."""
    weights = place.weights
    weights.only(*_TENSORS, optional=(*_STATISTICS, _ACTIVATION, _STATE, *_TWICE))
    d, d_sae = weights.length("pre_bias"), weights.length("latent_bias")
    config = Config(weights.file, dict(weights.values))
    name = config.choice(_ACTIVATION, ("ReLU", "TopK"), "ReLU")
    activation = _activation(name, _state(config, weights), d_sae, overrides)
    pre_bias = weights.tensor("pre_bias", d)
    return SAE(
        _source(name, activation, weights, place, overrides),
        W_enc=weights.tensor("encoder.weight", d_sae, d).T,
        b_enc=weights.tensor("latent_bias", d_sae),
        W_dec=weights.tensor("decoder.weight", d, d_sae).T,
        b_dec=pre_bias,
        pre_bias=pre_bias,
        activation=activation,
        norm=LayerNorm() if name == "TopK" else None,
    )


def _state(config: Config, weights: Weights) -> Config:
    """The activation's own values. The library writes them twice, the second time as "activation.k"."""
    if tensors := [name for name in (_ACTIVATION, _STATE, *_TWICE) if name in weights]:
        raise SAELoadError(f"{weights.file} holds {tensors[0]} as a tensor, which its format does not.")
    stated = config.fields.get(_STATE)
    if not isinstance(stated, dict | None):
        raise SAELoadError(f"{weights.file} has {_STATE} {clip(stated)}, which is no dict.")
    state = Config(weights.file, dict(stated or {}))
    for name, kind in _TWICE.items():
        key = name.removeprefix(f"{_ACTIVATION}.")
        again = config.get(name, kind)
        first = state.get(key, kind, again)
        if again not in (None, first):
            raise SAELoadError(f"{weights.file} has {name} {clip(again)}, but {clip(first)} in {_STATE}.")
        state.fields[key] = first
    return state


def _activation(name: str, state: Config, d_sae: int, overrides: Overrides) -> nn.Module:
    if name == "ReLU":
        if stray := [key for key, value in state.fields.items() if value is not None]:
            raise SAELoadError(f"{state.file} has the activation ReLU, but {clip(stray[0])} for it, which it has not.")
        overrides.no_k(state.file, name)
        return nn.ReLU(inplace=True)
    if unknown := [key for key in state.fields if key not in ("k", "postact_fn")]:
        raise SAELoadError(f"{state.file} has {clip(unknown[0])} in {_STATE}, which TopK has not.")
    k = overrides.choose_k(state.get("k", int), d_sae, state.file)
    return TopK(k, relu=state.choice("postact_fn", ("ReLU", "Identity")) == "ReLU")


def _source(name: str, activation: nn.Module, weights: Weights, place: Place, overrides: Overrides) -> Source:
    """Said by the path: the hook by a folder, the layer by the file."""
    own, *folders = place.parts
    location = next((part for part in folders if _FOLDER.fullmatch(part)), None)
    match = _FOLDER.fullmatch(location or "")
    layer = int(own) if re.fullmatch(r"\d{1,4}", own, re.ASCII) else None
    signed = isinstance(activation, TopK) and not activation.relu
    return Source(
        format=NAME,
        architecture="topk" if name == "TopK" else "standard",
        digest=digest_files(weights.file),
        dtype_on_disk=weights.dtype_name("encoder.weight"),
        path=place.path,
        files=(weights.file,),
        site=Site.find(overrides, location, read_as=_LOCATIONS[match[1]] if match else None, layer=layer),
        variant=name,
        notes=("The k largest pre-activations are kept as they are, negative ones too.",) if signed else (),
    )
