"""The state of an extraction: what has been counted and kept so far. It merges, and it can be saved."""

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.engine.capture import Batch
from jobs.engine.firings import Firings
from jobs.engine.quality import QualitySums
from jobs.engine.rows import HIGHEST_OCTAVE, LOWEST_OCTAVE, Rows, octave, reduce
from jobs.engine.statistics import FeatureSums

if TYPE_CHECKING:
    from jobs.engine.extraction import ExtractionSettings

N_OCTAVES = HIGHEST_OCTAVE - LOWEST_OCTAVE + 1
LAST_PRIORITY = np.iinfo(np.int64).max
MIN_PENDING = 100_000  # rows that wait before it is worth while to reduce
COUNTS = ("n_documents", "n_contexts", "n_special", "n_sinks")


class State:
    """Mergeable: counts and histograms add up, quality sums add up, rows reduce. Size depends on F, not on tokens."""

    def __init__(
        self, quality: QualitySums, sums: FeatureSums, rows: Rows, counts: NDArray[np.int64], top: int, reservoir: int
    ) -> None:
        self.quality, self.sums, self.rows, self.counts = quality, sums, rows, counts
        self.top, self.reservoir = top, reservoir
        self._pending: list[Rows] = []
        self._n_pending = 0
        self._set_thresholds()

    @classmethod
    def empty(cls, d_sae: int, d: int, settings: "ExtractionSettings", device: str = "cpu") -> Self:
        counts = np.zeros(len(COUNTS), np.int64)
        sums = FeatureSums(d_sae, device)
        return cls(QualitySums(d), sums, Rows.empty(), counts, settings.top, settings.reservoir)

    @property
    def d_sae(self) -> int:
        return len(self.sums.n_firing)

    def count(self, batch: Batch) -> None:
        documents = sum(c.offset == 0 for c in batch.contexts)
        self.counts += np.array([documents, len(batch.contexts), batch.n_special, batch.n_sinks])

    def add(self, firings: Firings, batch: Batch) -> None:
        """Count every firing, and keep the (context, feature) pairs that can still be among the best or the sample."""
        self.sums.update(firings.feature, firings.value, firings.pair_feature)
        wanted = firings.maximum >= self._worst_top[firings.pair_feature]
        place = firings.pair_feature * N_OCTAVES + firings.octave - LOWEST_OCTAVE
        wanted |= firings.priority <= self._worst_priority[place]
        rows = _rows(firings, wanted, np.array([c.number for c in batch.contexts]))
        self._pending.append(rows)
        self._n_pending += len(rows)
        if self._n_pending > max(MIN_PENDING, len(self.rows)):
            self.compact()

    def merge(self, other: Self) -> None:
        """Take in another shard's state. Shards hold different contexts."""
        self.quality.merge(other.quality)
        self.sums.merge(other.sums)
        self.counts += other.counts
        self._pending += [other.rows, *other._pending]
        self._n_pending += len(other.rows) + other._n_pending
        self.compact()

    def compact(self) -> Self:
        """Reduce what has been added since the last time, and raise the bar for what comes."""
        if self._pending:
            self.rows = reduce(Rows.concatenate([self.rows, *self._pending]), self.top, self.reservoir)
            self._pending, self._n_pending = [], 0
            self._set_thresholds()
        return self

    def _set_thresholds(self) -> None:
        """Per feature the value of the top-th row, and per octave the reservoir-th priority; open where not full.

        Rows of one key are counted more than once here only if they also differ in octave; a bar that is too high
        by that would lose rows, so the top bar is taken from distinct keys.
        """
        device = self.sums.n_firing.device
        worst_top = np.zeros(self.d_sae, np.float32)
        worst_priority = np.full(self.d_sae * N_OCTAVES, LAST_PRIORITY)
        if len(self.rows):
            feature = self.rows.feature.astype(np.int64)
            pair = np.unique(np.stack([feature, self.rows.key]), axis=1, return_index=True)[1]
            pair = pair[np.lexsort((-self.rows.value[pair], feature[pair]))]
            _nth_of_each(worst_top, feature[pair], self.rows.value[pair], self.top)
            place = feature * N_OCTAVES + octave(self.rows.value) - LOWEST_OCTAVE
            order = np.lexsort((self.rows.priority, place))
            _nth_of_each(worst_priority, place[order], self.rows.priority[order], self.reservoir)
        self._worst_top = torch.from_numpy(worst_top).to(device)
        self._worst_priority = torch.from_numpy(worst_priority).to(device)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, as named arrays for a safetensors file."""
        self.compact()
        rows = {f"rows.{name}": getattr(self.rows, name) for name in Rows.__slots__}
        shape = np.array([self.top, self.reservoir], np.int64)
        return self.quality.arrays() | self.sums.arrays() | rows | {"counts": self.counts, "shape": shape}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        rows = Rows(**{name: arrays[f"rows.{name}"] for name in Rows.__slots__})
        top, reservoir = (int(v) for v in arrays["shape"])
        counts = arrays["counts"].astype(np.int64)
        return cls(QualitySums.from_arrays(arrays), FeatureSums.from_arrays(arrays), rows, counts, top, reservoir)


def _rows(firings: Firings, wanted: Tensor, numbers: NDArray[np.int64]) -> Rows:
    """The pairs that are ``wanted`` [p], as a table; ``numbers`` are the batch's context numbers."""

    def host(tensor: Tensor, dtype: type[np.generic]) -> NDArray[Any]:
        return tensor.cpu().numpy().astype(dtype)

    tokens = wanted[firings.pair]
    return Rows(
        feature=host(firings.pair_feature[wanted], np.int32),
        context=numbers[firings.pair_context[wanted].cpu().numpy()],
        value=host(firings.maximum[wanted], np.float32),
        peak=host(firings.peak[wanted], np.uint16),
        key=host(firings.key[wanted], np.int64),
        priority=host(firings.priority[wanted], np.int64),
        length=host(firings.length[wanted], np.int32),
        positions=host(firings.position[tokens], np.uint16),
        values=host(firings.value[tokens], np.float32),
    )


def _nth_of_each(out: NDArray[Any], group: NDArray[np.int64], values: NDArray[Any], n: int) -> None:
    """Write into ``out`` [groups] the n-th of each group's ``values``; both come sorted by group. Short groups stay."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    sizes = np.diff(starts, append=len(group))
    full = starts[sizes >= n]
    out[group[full]] = values[full + n - 1]
