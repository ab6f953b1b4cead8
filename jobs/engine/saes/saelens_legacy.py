"""SAELens before version 6: the same two files, with one flat config.

Versions 3 to 5 and 2 name the same things differently; absent keys had defaults. What is computed is version 6's
(jobs.engine.saes.saelens_v6).
"""

from torch import Tensor

from jobs.engine.errors import SAELoadError
from jobs.engine.saes.activations import TanhReLU
from jobs.engine.saes.base import SAE, Overrides, Site
from jobs.engine.saes.place import Place
from jobs.engine.saes.saelens_v6 import CONFIG, NORMS, WEIGHTS, Recipe, build, is_centred
from jobs.engine.saes.text import Config
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
    _check_scaling(config, weights)
    return build(_read_recipe(config, place, overrides), config, weights, overrides)


def _read_recipe(config: Config, place: Place, overrides: Overrides) -> Recipe:
    architecture = config.choice("architecture", ("standard", "gated", "jumprelu", "topk"), "standard")
    field = "activation_fn_str" if "activation_fn_str" in config else "activation_fn"
    activation = config.choice(field, _ACTIVATIONS, "relu")
    if activation != "relu" and architecture not in ("standard", "topk"):
        raise SAELoadError(f"{config.file} has the architecture {architecture} with {field} {activation}.")
    if activation == "topk":
        architecture = "topk"
    hook_name = config.name("hook_name") or config.name("hook_point")
    layer = config.get("hook_layer", int, config.get("hook_point_layer", int))
    return Recipe(
        format=NAME,
        architecture=architecture,
        apply_b_dec_to_input=config.get("apply_b_dec_to_input", bool, True),
        norm=_norm(config),
        k=config.part("activation_fn_kwargs").get("k", int, config.get("k", int)) if architecture == "topk" else None,
        site=Site.find(overrides, hook_name, layer=_layer(layer, config)),
        centred=is_centred(config) or any(_CENTRED_REPOSITORY in part for part in place.parts),
        model_name=config.name("model_name"),
        activation=TanhReLU() if activation == "tanh-relu" else None,
    )


def _norm(config: Config) -> str:
    """Before version 3 it was a boolean; its scale was folded into the weights when they were saved."""
    if (stated := config.fields.get("normalize_activations")) is None or stated is False:
        return "none"
    return "expected_average_only_in" if stated is True else config.choice("normalize_activations", tuple(NORMS))


def _layer(layer: int | None, config: Config) -> int | None:
    if layer is not None and not 0 <= layer < 10_000:
        raise SAELoadError(f"{config.file} says that the SAE reads layer {layer}, which no model has.")
    return layer


def _check_scaling(config: Config, weights: Weights) -> None:
    """Factors of the features' outputs, from a finetuning. SAELens itself reads them no more."""
    if "scaling_factor" in weights:
        factor: Tensor = weights.tensor("scaling_factor", weights.length("scaling_factor"))
        if (factor != 1).any():
            raise SAELoadError(
                f"{weights.file} holds a scaling_factor that is not all ones, from a finetuning: "
                "multiply the rows of W_dec by it, set it to ones and save again."
            )
    elif config.get("finetuning_scaling_factor", bool, False):
        raise SAELoadError(f"{config.file} sets finetuning_scaling_factor, but {weights.file} holds no scaling_factor.")
