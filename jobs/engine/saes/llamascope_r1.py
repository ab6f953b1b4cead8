"""Llama-Scope-R1 (OpenMOSS, 2025): ``config.json`` and ``sae_weights.safetensors``, whose encoder is encoder.weight.

What is computed is Llamascopium's (jobs.engine.saes.llamascopium), with torch's Linear layers in the file. Activations
and reconstructions follow the library of March 2025; the config's ``jump_relu_threshold`` is one of an earlier time.
"""

from jobs.engine.errors import SAELoadError
from jobs.engine.saes.base import SAE, Overrides
from jobs.engine.saes.llamascopium import CONFIG, WEIGHTS, Folder, Layout, build
from jobs.engine.saes.place import Place
from jobs.engine.saes.weights import open_weights

NAME = "llamascope_r1"

_LAYOUT = Layout(
    "encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias", "log_jumprelu_threshold", transposed=True
)


def detect(place: Place) -> bool:
    return place.has(CONFIG, WEIGHTS) and _LAYOUT.W_enc in open_weights(place.file(WEIGHTS))


def load(place: Place, overrides: Overrides) -> SAE:
    """Raises SAELoadError on everything but JumpReLU, for which alone the format is known."""
    folder = Folder.open(NAME, place, overrides, (CONFIG, WEIGHTS), "jumprelu")
    if folder.config.get("apply_decoder_bias_to_pre_encoder", bool, False):
        raise SAELoadError(
            f"{folder.config.file} sets apply_decoder_bias_to_pre_encoder, which is not known of its format."
        )
    return build(folder, _LAYOUT)
