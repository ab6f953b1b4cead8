"""The contexts that a run keeps for each feature, as one flat table that merges.

A row says that a feature fires in a context: its maximum there, where, and the activation of every firing token. What
is kept is a pure function of the set of rows (``reduce``): tables merge by being put end to end and reduced, so any
split of a corpus into shards, merged in any order, gives the same table.
"""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

LOWEST_OCTAVE, HIGHEST_OCTAVE = -16, 15


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of n rows. ``length`` cuts ``positions`` and ``values``, which hold all rows' firing tokens end to end.

    ``key`` names the tokens around the peak: rows of a feature with one key show the same text. ``priority`` is a
    hash of feature, key and seed: the rows of lowest priority are a random sample that merges and repeats.
    """

    feature: NDArray[Any]  # int32
    context: NDArray[Any]  # int64
    value: NDArray[Any]  # float32
    peak: NDArray[Any]  # uint16
    key: NDArray[Any]  # int64
    priority: NDArray[Any]  # int64
    length: NDArray[Any]  # int32
    positions: NDArray[Any]  # uint16
    values: NDArray[Any]  # float32

    def __len__(self) -> int:
        return len(self.feature)

    @classmethod
    def empty(cls) -> Self:
        dtypes = (np.int32, np.int64, np.float32, np.uint16, np.int64, np.int64, np.int32, np.uint16, np.float32)
        return cls(*(np.empty(0, dtype) for dtype in dtypes))

    @classmethod
    def concatenate(cls, tables: list[Self]) -> Self:
        return cls(*(np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(cls)))

    def take(self, index: NDArray[np.intp]) -> Self:
        """The rows ``index``, in that order, with their firing tokens."""
        ends = np.cumsum(self.length, dtype=np.int64)
        lengths = self.length[index]
        total = int(lengths.sum())
        # For each kept token: where its row starts in the old table, plus its place within the row.
        within = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        tokens = np.repeat(ends[index] - lengths, lengths) + within
        columns = {f.name: getattr(self, f.name)[index] for f in fields(self)[:-2]}
        return type(self)(**columns, positions=self.positions[tokens], values=self.values[tokens])


def octave(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """floor(log2(v)), exact, clipped to the octaves that are told apart."""
    return np.clip(np.frexp(values)[1].astype(np.int64) - 1, LOWEST_OCTAVE, HIGHEST_OCTAVE)


def reduce(rows: Rows, top: int, reservoir: int) -> Rows:
    """Keep, for each feature, the ``top`` best rows and the ``reservoir`` lowest priorities of each octave.

    Best is value descending, then context ascending. Of rows with one key only the best counts: among all rows of the
    feature for the first, among those of the octave for the second. The result is sorted by feature, then best first.
    """
    if not len(rows):
        return rows
    keep = _best(rows, top)
    keep |= _sample(rows, reservoir)
    kept = np.flatnonzero(keep)
    order = np.lexsort((rows.context[kept], -rows.value[kept], rows.feature[kept]))
    return rows.take(kept[order])


def _best(rows: Rows, top: int) -> NDArray[np.bool_]:
    distinct = _first_of_each((rows.feature, rows.key), (-rows.value, rows.context))
    order = distinct[np.lexsort((rows.context[distinct], -rows.value[distinct], rows.feature[distinct]))]
    return _lowest_ranks(order, (rows.feature,), top)


def _sample(rows: Rows, reservoir: int) -> NDArray[np.bool_]:
    octaves = octave(rows.value)
    distinct = _first_of_each((rows.feature, octaves, rows.key), (-rows.value, rows.context))
    order = distinct[np.lexsort((rows.priority[distinct], octaves[distinct], rows.feature[distinct]))]
    return _lowest_ranks(order, (rows.feature, octaves), reservoir)


def _first_of_each(groups: tuple[NDArray[Any], ...], order: tuple[NDArray[Any], ...]) -> NDArray[np.intp]:
    """For each group of rows the one that comes first in ``order``."""
    index = np.lexsort((*reversed(order), *reversed(groups)))
    return index[_starts(index, groups)]


def _lowest_ranks(order: NDArray[np.intp], groups: tuple[NDArray[Any], ...], limit: int) -> NDArray[np.bool_]:
    """A mask over all rows: the first ``limit`` of each group, ``order`` being sorted by group."""
    places = np.arange(len(order))
    first = np.maximum.accumulate(np.where(_starts(order, groups), places, 0))
    mask = np.zeros(len(groups[0]), dtype=bool)
    mask[order[places - first < limit]] = True
    return mask


def _starts(index: NDArray[np.intp], groups: tuple[NDArray[Any], ...]) -> NDArray[np.bool_]:
    """Where in ``index``, sorted by group, a new group begins."""
    new = np.zeros(len(index), dtype=bool)
    new[:1] = True
    for group in groups:
        column = group[index]
        new[1:] |= column[1:] != column[:-1]
    return new
