"""Load SAE checkpoints, whatever library wrote them: one module per format, each with ``detect`` and ``load``."""

from pathlib import Path
from typing import Protocol

import torch

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import (
    dictionary_learning,
    gemma_scope,
    gemma_scope_2,
    goodfire,
    llamascope,
    llamascope_r1,
    llamascopium,
    openai,
    qwen_scope,
    saelens_legacy,
    saelens_v6,
    sparsify,
)
from jobs.engine.saes.base import SAE, Overrides
from jobs.engine.saes.place import Place, find_places, folders_in, pickles_in
from jobs.engine.saes.text import check_name, check_path, clip, clip_path

__all__ = ["SAE", "load_sae"]

MAX_LAYER = 10_000


class Format(Protocol):
    """A checkpoint format. ``detect`` looks at the names of files and tensors; ``load`` says what is wrong with them.

    NAME is written to the database.
    """

    NAME: str

    def detect(self, place: Place) -> bool: ...

    def load(self, place: Place, overrides: Overrides) -> SAE: ...


# In this order: the last two know a folder by one file of it, and then say which other is missing.
FORMATS: tuple[Format, ...] = (
    sparsify,
    gemma_scope,
    gemma_scope_2,
    dictionary_learning,
    goodfire,
    llamascope,
    llamascope_r1,
    llamascopium,
    openai,
    qwen_scope,
    saelens_v6,
    saelens_legacy,
)


def load_sae(
    path: str | Path,
    *,
    device: str | torch.device = "cpu",
    k: int | None = None,
    layer: int | None = None,
    hook: str | None = None,
    centred: bool | None = None,
    hook_out: str | None = None,
    layer_out: int | None = None,
) -> SAE:
    """Load the SAE at ``path``, a folder or a file, as float32 onto ``device``.

    ``k``, ``layer`` (from 0), ``hook`` ("resid_post" or "blocks.9.hook_resid_post"), ``hook_out`` and ``layer_out``
    (what a transcoder writes) and ``centred`` (the mean over d_in is taken off the activations first) say what the
    files do not, and win over them. Raises SAELoadError, one sentence that names the file and the fault.
    """
    overrides = Overrides(
        k=_whole("k", k, 1, None),
        layer=_whole("layer", layer, 0, MAX_LAYER),
        hook=check_name(hook, "hook"),
        hook_out=check_name(hook_out, "hook_out"),
        layer_out=_whole("layer_out", layer_out, 0, MAX_LAYER),
    )
    path = check_path(Path(path))
    shown = clip_path(path)
    try:
        if not path.exists():
            raise SAELoadError(f"{shown} does not exist.")
        checkpoint_format, place = _recognise(path)
        sae = checkpoint_format.load(place, overrides)
        sae.centred = sae.centred if centred is None else centred
        return sae.to(device)
    except OSError as error:
        raise SAELoadError(f"{shown} cannot be read: {error.strerror}.") from error
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise SAELoadError(f"{shown} does not fit into memory.") from error
    except RuntimeError as error:  # as torch says it on a CPU
        if "allocate memory" not in str(error):
            raise
        raise SAELoadError(f"{shown} does not fit into memory.") from error


def _recognise(path: Path) -> tuple[Format, Place]:
    for place in find_places(path):
        for checkpoint_format in FORMATS:
            if checkpoint_format.detect(place):
                return checkpoint_format, place
    raise SAELoadError(f"{clip_path(path)} is no SAE checkpoint that can be read here{_instead(path)}.")


def _instead(path: Path) -> str:
    """What there is in place of a checkpoint."""
    known = f": known formats are {', '.join(f.NAME for f in FORMATS)} (docs/formats.md says what each consists of)"
    inside = [p.name for p in (pickles_in(path) or folders_in(path))] if path.is_dir() else []
    if not inside:
        return known
    more = f" and {len(inside) - 5} more" if len(inside) > 5 else ""
    return f"; it holds {clip(', '.join(inside[:5]))}{more}: name one of them, if that is the SAE{known}"


def _whole(name: str, value: int | None, low: int, high: int | None) -> int | None:
    if value is None or (type(value) is int and low <= value and (high is None or value <= high)):
        return value
    limits = f"from {low}" if high is None else f"from {low} to {high}"
    raise SAELoadError(f"{name} must be a whole number {limits}, not {clip(value)}.")
