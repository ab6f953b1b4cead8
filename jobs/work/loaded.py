"""Model and SAE in a worker's memory, the same for every shard of a job."""

import gc
from dataclasses import asdict, dataclass
from typing import Any

import torch

from jobs.engine.capture import Capture, capture_of
from jobs.engine.code import code_version
from jobs.engine.errors import SettingsError
from jobs.engine.extraction import ExtractionSettings, check_fit
from jobs.engine.model import LoadedModel, load_model
from jobs.engine.saes import SAE, load_sae
from jobs.progress import Progress, ShardProgress
from jobs.requests import ExtractionRequest
from jobs.sources import model_source, sae_located

BATCH = {"cpu": 2048, "cuda": 8192}  # tokens per forward pass: more does not make it quicker


@dataclass(frozen=True)
class Loaded:
    """``capture`` is not calibrated yet. ``sae_source``: the SAE's lasting name."""

    model: LoadedModel
    sae: SAE
    capture: Capture
    sae_source: str
    asked: ExtractionSettings

    @property
    def digests(self) -> dict[str, Any]:
        """What the model and the SAE are: their part of a run's provenance."""
        model, sae = self.model, self.sae
        return {
            "model": {
                "source": model.source,
                "revision": model.revision,
                "weights": model.weights_digest,
                "tokenizer": model.tokenizer_digest,
                "chat_template": model.chat_template_digest,
            },
            "sae": {
                "source": self.sae_source,
                "digest": sae.digest,
                "format": sae.format,
                "dtype": sae.dtype_on_disk,
            },
            "dtype": model.dtype,
            "hook": self._hook,
        }

    @property
    def _hook(self) -> list[Any]:
        """Where and how the SAE is read, and written; what is not out of the ordinary is not named."""
        point, out = self.capture.point, self.capture.point_out
        written = [] if out is None else [out.hook, out.layer]
        return [point.hook, point.layer, self.sae.k, *written, *(["centred"] if self.capture.centred else [])]

    @property
    def device_type(self) -> str:
        return torch.device(self.model.device).type


def load(request: ExtractionRequest, progress: Progress | ShardProgress) -> Loaded:
    """Raises EngineError."""
    device = device_for(request.device)
    dtype = dtype_for(request.dtype, device)
    asked = ExtractionSettings(
        context=request.context,
        top=request.top,
        seed=request.seed,
        skip_first=request.skip_first,
        batch=BATCH[torch.device(device).type],
    )
    set_precision(device, dtype)
    _tell(progress, "loading the SAE")
    located, overrides = sae_located(request)
    sae = load_sae(located.path, device=device, **overrides)
    hook, layer = sae.hook_point()
    _tell(progress, "loading the model")
    model = read_model(request, device)
    capture = capture_of(model, sae, hook, layer, asked.skip_first, experts=True)
    check_fit(sae, capture, asked.context)
    settle()
    return Loaded(model, sae, capture, located.source, asked)


def set_precision(device: str, dtype: str) -> None:
    """The model's own products are as exact as its dtype; the SAE's, in float32, may use TF32 beside it."""
    if device.startswith("cuda"):
        torch.set_float32_matmul_precision("highest" if dtype == "float32" else "high")


def read_model(request: ExtractionRequest, device: str) -> LoadedModel:
    """Raises ModelLoadError."""
    return load_model(**asdict(model_source(request)), device=device, dtype=dtype_for(request.dtype, device))


def settle() -> None:
    """Spare the collector what has been loaded and imported: it would walk through all of it again and again.

    What an earlier job had loaded goes first.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def check_same(loaded: Loaded, plan: dict[str, Any]) -> None:
    """Raise SettingsError where this worker would not compute what the job was planned with."""
    made_with, own = plan["made_with"], loaded.digests
    pairs = [
        ("the weights of the model", own["model"]["weights"], made_with["model"]["weights"]),
        ("the model's tokenizer", own["model"]["tokenizer"], made_with["model"]["tokenizer"]),
        ("the SAE", own["sae"]["digest"], made_with["sae"]["digest"]),
        ("the hook point, layer or k", own["hook"], made_with["hook"]),
        ("the dtype", own["dtype"], made_with["dtype"]),
        ("the code", code_version()["commit"], made_with["commit"]),
    ]
    for what, here, planned in pairs:
        if here != planned:
            raise SettingsError(
                f"On this worker {what} is not what the job was planned with ({_short(here)}, not {_short(planned)}): "
                "have all workers see the same files and run the same version, then send the job again."
            )


def device_for(wanted: str) -> str:
    """Raises SettingsError where this machine does not have it."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not wanted.startswith(("cpu", "cuda")):
        raise SettingsError(f"The device {wanted} is not supported: choose auto, cpu or cuda.")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError(f"The device {wanted} was asked for, but this worker has no CUDA GPU: choose auto or cpu.")
    try:
        return str(torch.device(wanted))
    except RuntimeError as error:
        raise SettingsError(f"There is no device {wanted}: choose auto, cpu or cuda.") from error


def dtype_for(wanted: str, device: str) -> str:
    if wanted != "auto":
        return wanted
    return "bfloat16" if device.startswith("cuda") else "float32"


def has_device(kind: str, wanted: str) -> bool:
    """Whether a job that was planned on a device of this kind, cpu or cuda, would run on one here."""
    try:
        return torch.device(device_for(wanted)).type == kind
    except SettingsError:
        return False


def _tell(progress: Progress | ShardProgress, stage: str) -> None:
    progress.stage(stage) if isinstance(progress, Progress) else progress.tell(stage)


def _short(value: object) -> str:
    return str(value)[:12] or "none"
