"""Load SAE checkpoints, whatever library wrote them: one module per format, each with ``detect`` and ``load``."""

from pathlib import Path
from typing import Protocol

import torch

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import saelens
from jobs.engine.saes.base import SAE, Overrides, check_hook_name, clip

__all__ = ["SAE", "load_sae"]

MAX_LAYER = 10_000


class Format(Protocol):
    """A checkpoint format. ``detect`` looks at file names only; ``load`` then says what is wrong with the rest."""

    HINT: str

    def detect(self, path: Path) -> bool: ...

    def load(self, path: Path, overrides: Overrides) -> SAE: ...


FORMATS: tuple[Format, ...] = (saelens,)


def load_sae(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    k: int | None = None,
    layer: int | None = None,
    hook: str | None = None,
) -> SAE:
    """Load the SAE at ``path`` as float32 onto ``device``.

    ``k``, ``layer`` (from 0) and ``hook`` ("resid_post" or "blocks.9.hook_resid_post") say what the files do not,
    and win over them. Raises SAELoadError, one sentence that names the file and the fault.
    """
    overrides = Overrides(_whole("k", k, 1, None), _whole("layer", layer, 0, MAX_LAYER), check_hook_name(hook, "hook"))
    path = Path(path)
    try:
        if not path.exists():
            raise SAELoadError(f"{path} does not exist.")
        for checkpoint_format in FORMATS:
            if checkpoint_format.detect(path):
                return checkpoint_format.load(path, overrides).to(device)
    except OSError as error:
        raise SAELoadError(f"{path} cannot be read: {error.strerror}.") from error
    known = "; ".join(f.HINT for f in FORMATS)
    raise SAELoadError(f"{path} is no SAE checkpoint that can be read here. These are: {known}.")


def _whole(name: str, value: int | None, low: int, high: int | None) -> int | None:
    if value is None or (type(value) is int and low <= value and (high is None or value <= high)):
        return value
    limits = f"from {low}" if high is None else f"from {low} to {high}"
    raise SAELoadError(f"{name} must be a whole number {limits}, not {clip(value)}.")
