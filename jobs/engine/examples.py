"""From what a run kept to the examples that people see: the top, bands down the range, near misses and silence."""

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from jobs.engine.rows import Rows
from jobs.engine.state import State
from jobs.engine.statistics import FIRST_BIN, N_BINS, PER_OCTAVE

TOP, NEAR, SILENT = 0, 5, 6
QUARTERS = (0.75, 0.5, 0.25)  # of a feature's firing tokens; bands 1, 2, 3 lie above these, band 4 below the last


@dataclass(frozen=True)
class Columns:
    """Rows in numpy, to be shown: ``length`` cuts ``positions`` and ``values``, all rows' tokens end to end."""

    feature: NDArray[np.int32]
    context: NDArray[np.int32]
    value: NDArray[np.float32]
    peak: NDArray[np.int16]
    priority: NDArray[np.int64]
    length: NDArray[np.int16]
    positions: NDArray[np.int16]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.feature)

    @classmethod
    def of(cls, rows: Rows) -> Self:
        return cls(**{f.name: getattr(rows, f.name).cpu().numpy() for f in fields(cls)})

    @classmethod
    def concatenate(cls, tables: list[Self]) -> Self:
        return cls(**{f.name: np.concatenate([getattr(t, f.name) for t in tables]) for f in fields(cls)})

    def take(self, index: NDArray[np.intp]) -> Self:
        """The rows ``index``, in that order, with their tokens."""
        lengths = self.length.astype(np.int64)
        starts = (np.cumsum(lengths) - lengths)[index]
        lengths = lengths[index]
        tokens = np.arange(lengths.sum()) + np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
        columns: dict[str, Any] = {f.name: getattr(self, f.name)[index] for f in fields(self)[:-2]}
        return type(self)(**columns, positions=self.positions[tokens], values=self.values[tokens])


@dataclass(frozen=True)
class Selection:
    """``rows`` sorted by feature, then band, then value descending and context ascending; ``band`` uint8 of each.

    Of a near miss the one value is a pre-activation, and the feature fires nowhere in the context. A silent context
    has value 0 and no tokens.
    """

    rows: Columns
    band: NDArray[np.uint8]

    def of(self, feature: int) -> slice:
        """Where the examples of ``feature`` stand."""
        start, stop = np.searchsorted(self.rows.feature, [feature, feature + 1])
        return slice(int(start), int(stop))


def select_examples(state: State, per_band: int, seed: int = 0) -> Selection:
    """Top: the best rows. Bands: of the sampled rows, ``per_band`` of lowest priority in each. Then those that are not.

    No text is shown twice for one feature: of rows with one priority the best stands for all.
    """
    fired, band = _banded(state, per_band)
    near = Columns.of(state.near.rows)
    silent = _silent(state, seed)
    rows = Columns.concatenate([fired, near, silent])
    band = np.concatenate([band, np.full(len(near), NEAR, np.uint8), np.full(len(silent), SILENT, np.uint8)])
    order = np.lexsort((rows.context, -rows.value, band, rows.feature))
    return Selection(rows.take(order), band[order])


def _banded(state: State, per_band: int) -> tuple[Columns, NDArray[np.uint8]]:
    rows = Columns.of(state.rows)  # by feature, best first
    rows = rows.take(np.sort(np.unique(rows.priority, return_index=True)[1]))
    band = _bands(rows, state.sums.histogram.cpu().numpy().reshape(-1, N_BINS))
    feature = rows.feature.astype(np.int64)
    band[_rank_within(feature) < state.fired.top] = TOP
    places = feature * (len(QUARTERS) + 2) + band
    by_priority = np.lexsort((rows.priority, places))
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[by_priority] = _rank_within(places[by_priority]) < per_band
    kept = np.flatnonzero(chosen | (band == TOP))
    return rows.take(kept), band[kept]


def _silent(state: State, seed: int) -> Columns:
    feature, context = state.pool.silent(state.d_sae, seed)
    n = len(feature)
    return Columns(
        feature=feature,
        context=context,
        value=np.zeros(n, np.float32),
        peak=np.zeros(n, np.int16),
        priority=np.zeros(n, np.int64),
        length=np.zeros(n, np.int16),
        positions=np.empty(0, np.int16),
        values=np.empty(0, np.float32),
    )


def band_edges(histograms: NDArray[np.int64]) -> NDArray[np.float32]:
    """[F, 3] activations that cut each feature's firing tokens into quarters, to the bin edge below, highest first."""
    cumulative = np.cumsum(histograms, axis=1)
    totals = cumulative[:, -1:]
    bins = [np.argmax(cumulative > q * totals, axis=1) for q in QUARTERS]
    edges = np.exp2((FIRST_BIN + np.arange(N_BINS)) / PER_OCTAVE).astype(np.float32)
    edges[0] = 0  # the first bin also holds what lies below it
    found: NDArray[np.float32] = edges[np.stack(bins, axis=1)]
    return found


def _bands(rows: Columns, histograms: NDArray[np.int64]) -> NDArray[np.uint8]:
    above = rows.value[:, None] >= band_edges(histograms)[rows.feature]
    return np.asarray(len(QUARTERS) + 1 - above.sum(axis=1), np.uint8)


def _rank_within(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each row within its group; ``group`` is sorted."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
