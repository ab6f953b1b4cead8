"""Models and SAEs that stay in a worker's memory between one text and the next."""

import gc
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from django.conf import settings

from features.models import SAE as SAERow
from jobs import machine, presence
from jobs.engine import heap
from jobs.engine.capture import Capture, capture_of
from jobs.engine.errors import SettingsError
from jobs.engine.extraction import check_fit
from jobs.engine.model import LoadedModel
from jobs.engine.saes import SAE, load_sae
from jobs.requests import ExtractionRequest
from jobs.sources import sae_located
from jobs.work.loaded import device_for, dtype_for, read_model, set_precision, settle

SPARE = 0.1  # of all memory, which is left free
Tell = Callable[[str], object]


@dataclass(frozen=True)
class Pair:
    """An SAE with its model, ready to read. ``seconds``: what loading took."""

    name: str
    model: LoadedModel
    sae: SAE
    capture: Capture
    seconds: float


class Warm:
    """The ``size`` pairs that were used last, or fewer where memory is short. SAEs of one model share it."""

    def __init__(self, size: int) -> None:
        self.size = max(1, size)
        self._pairs: OrderedDict[tuple[int, str, str], Pair] = OrderedDict()

    @property
    def names(self) -> list[str]:
        """Of the SAEs, the one that was used last at the end."""
        return [pair.name for pair in self._pairs.values()]

    def pair(self, row: SAERow, dtype: str, tell: Tell) -> tuple[Pair, bool]:
        """``row`` with its model in ``dtype``, and whether it had to be loaded. Raises EngineError."""
        device = device_for("auto")
        key = (row.pk, row.digest, dtype_for(dtype, device))
        if key in self._pairs:
            self._pairs.move_to_end(key)
            return self._pairs[key], False
        model = next((pair.model for pair in self._pairs.values() if _is_of(pair.model, row, key[2])), None)
        self._make_room(4 * (row.d_in + row.d_out) * row.d_sae, device)
        self._pairs[key] = _load(row, key[2], device, model, tell)
        settle()
        presence.tell(warm=self.names)
        return self._pairs[key], True

    def clear(self) -> None:
        """Leave the memory to something else."""
        if self._pairs:
            self._drop(len(self._pairs))
            presence.tell(warm=[])

    def _make_room(self, wanted: int, device: str) -> None:
        self._drop(max(0, len(self._pairs) - self.size + 1))
        while self._pairs and is_short(wanted, device):
            self._drop(1)

    def _drop(self, n: int) -> None:
        """The ``n`` that were not used for longest."""
        for _ in range(n):
            self._pairs.popitem(last=False)
        if n:
            gc.unfreeze()
            gc.collect()
            heap.trim()
            torch.cuda.empty_cache()  # nothing where no GPU is in use


def is_short(wanted: int, device: str) -> bool:
    """Whether ``wanted`` bytes more would leave less than SPARE of the memory of ``device``."""
    if device.startswith("cuda"):
        free, total = torch.cuda.mem_get_info(device)
    else:
        free, total = machine.memory_free() or sys.maxsize, machine.memory_total() or 0
    return free - wanted < SPARE * total


def _load(row: SAERow, dtype: str, device: str, model: LoadedModel | None, tell: Tell) -> Pair:
    began = time.monotonic()
    set_precision(device, dtype)
    request = ExtractionRequest(model=row.model.slug, sae=row.slug, corpus="", device=device, dtype=dtype)
    tell("loading the SAE")
    located, overrides = sae_located(request)
    sae = load_sae(located.path, device=device, **overrides)
    _check("SAE", row.source, sae.digest, row.digest)
    if model is None:
        tell("loading the model")
        model = read_model(request, device)
        _check("model", row.model.source, model.weights_digest, row.model.weights_digest)
        _check("tokenizer of", row.model.source, model.tokenizer_digest, row.model.tokenizer_digest)
    hook, layer = sae.hook_point()
    capture = capture_of(model, sae, hook, layer)
    check_fit(sae, capture, 1)
    return Pair(row.name, model, sae, capture, time.monotonic() - began)


def _is_of(model: LoadedModel, row: SAERow, dtype: str) -> bool:
    mine = (model.weights_digest, model.tokenizer_digest, model.dtype)
    return mine == (row.model.weights_digest, row.model.tokenizer_digest, dtype)


def _check(what: str, source: str, here: str, known: str) -> None:
    if here != known:
        raise SettingsError(
            f"The {what} {source} on this worker is not what the features were extracted from (its digest is "
            f"{here[:12]}, not {known[:12]}): put the old files back, or extract from the new ones."
        )


WARM = Warm(settings.WARM_SAES)
