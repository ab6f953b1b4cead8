"""SAELens before version 6: the same two files, with one flat config.

Versions 3 to 5 and 2 name the same things differently; absent keys had defaults. What is computed is version 6's
(jobs.engine.saes.saelens_v6).
"""

from jobs.engine import hook_names
from jobs.engine.errors import SAELoadError
from jobs.engine.saes.activations import TanhReLU
from jobs.engine.saes.base import SAE, Overrides, Site
from jobs.engine.saes.place import Place
from jobs.engine.saes.saelens_v6 import CONFIG, NORMS, WEIGHTS, Recipe, build, check_scale, head_notes, is_centred
from jobs.engine.saes.text import Config, clip
from jobs.engine.saes.weights import Weights, open_weights

NAME = "saelens_legacy"

_ACTIVATIONS = ("relu", "topk", "tanh-relu")
# Trained on a model whose writing weights were centred, which their configs do not say; SAELens' own table does.
_CENTRED_REPOSITORY = "GPT2-Small-SAEs"


def detect(place: Place) -> bool:
    return place.has(CONFIG, WEIGHTS) and not place.has("sae.safetensors")


def load(place: Place, overrides: Overrides) -> SAE:
    """Raises SAELoadError on what cannot be read as the library would, or that it reads wrongly itself."""
    config, weights = Config(place.file(CONFIG)), open_weights(place.file(WEIGHTS))
    if "d_in" not in config and "d_sae" not in config:
        raise SAELoadError(f"{config.file} states neither d_in nor d_sae: it is no config of SAELens.")
    sae = build(_read_recipe(config, place, overrides), config, weights, overrides)
    _check_scaling(config, weights, sae.d_sae)
    return sae


def _read_recipe(config: Config, place: Place, overrides: Overrides) -> Recipe:
    architecture = config.choice("architecture", ("standard", "gated", "jumprelu", "topk"), "standard")
    field = _agreed(config, "activation_fn_str", "activation_fn")
    activation = config.choice(field, _ACTIVATIONS, "relu")
    if activation != "relu" and architecture not in ("standard", "topk"):
        raise SAELoadError(f"{config.file} has the architecture {architecture} with {field} {activation}.")
    if activation == "topk":
        architecture = "topk"
    hook_name = config.name("hook_name") or config.name("hook_point")
    norm = _norm(config)
    check_scale(norm, place)
    return Recipe(
        format=NAME,
        architecture=architecture,
        apply_b_dec_to_input=config.get("apply_b_dec_to_input", bool, True),
        norm=norm,
        k=_k(config, overrides) if architecture == "topk" else None,
        site=Site.find(overrides, hook_name, layer=_layer(config, hook_name, overrides)),
        centred=is_centred(config) or any(_CENTRED_REPOSITORY in part for part in place.parts),
        model_name=config.name("model_name"),
        rescale_acts_by_decoder_norm=config.get("rescale_acts_by_decoder_norm", bool, False),
        activation=TanhReLU() if activation == "tanh-relu" else None,
        notes=head_notes(config, "hook_head_index" if "hook_head_index" in config else "hook_point_head_index"),
    )


def _agreed(config: Config, name: str, other: str) -> str:
    """The one of two names of a field that is there. Raises SAELoadError where both are, and differ."""
    if name in config and other in config and config.fields[name] != config.fields[other]:
        values = f"{name} {clip(config.fields[name])} and {other} {clip(config.fields[other])}"
        raise SAELoadError(f"{config.file} has {values}: remove the wrong one.")
    return name if name in config else other


def _k(config: Config, overrides: Overrides) -> int | None:
    k: int | None = config.get("k", int)
    own: int | None = config.part("activation_fn_kwargs").get("k", int, k)
    if k not in (None, own) and overrides.k is None:
        raise SAELoadError(f"{config.file} has k {clip(own)} in activation_fn_kwargs and k {clip(k)}: give k.")
    return own


def _norm(config: Config) -> str:
    """Before version 3 it was a boolean; its scale was folded into the weights when they were saved."""
    if (stated := config.fields.get("normalize_activations")) is None or stated is False:
        return "none"
    return "expected_average_only_in" if stated is True else config.choice("normalize_activations", tuple(NORMS))


def _layer(config: Config, hook_name: str | None, overrides: Overrides) -> int | None:
    field = "hook_layer" if "hook_layer" in config else "hook_point_layer"
    layer: int | None = config.get(field, int)
    if layer is not None and not 0 <= layer < 10_000:
        raise SAELoadError(f"{config.file} says that the SAE reads layer {clip(layer)}, which no model has.")
    named = hook_names.parse(hook_name)[1]
    if layer is not None and named not in (None, layer) and overrides.layer is None:
        raise SAELoadError(f"{config.file} says {field} {layer} and names the hook {clip(hook_name)}: give layer.")
    return layer


def _check_scaling(config: Config, weights: Weights, d_sae: int) -> None:
    """Factors of the features' outputs, from a finetuning. SAELens itself reads them no more."""
    if "scaling_factor" in weights:
        if (weights.tensor("scaling_factor", d_sae) != 1).any():
            raise SAELoadError(
                f"{weights.file} holds a scaling_factor that is not all ones, from a finetuning: "
                "multiply the rows of W_dec by it, set it to ones and save again."
            )
    elif config.get("finetuning_scaling_factor", bool, False):
        raise SAELoadError(f"{config.file} sets finetuning_scaling_factor, but {weights.file} holds no scaling_factor.")
