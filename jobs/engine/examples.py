"""From the rows that a run kept to the examples that people see: the top, then bands down the range of activations."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jobs.engine.rows import Rows
from jobs.engine.state import State
from jobs.engine.statistics import FIRST_BIN, N_BINS, PER_OCTAVE

TOP = 0
QUARTERS = (0.75, 0.5, 0.25)  # of a feature's firing tokens; bands 1, 2, 3 lie above these, band 4 below the last


@dataclass(frozen=True)
class Selection:
    """``rows`` sorted by feature, then band, then value descending and context ascending; ``band`` uint8 of each."""

    rows: Rows
    band: NDArray[np.uint8]

    def of(self, feature: int) -> slice:
        """Where the examples of ``feature`` stand."""
        start, stop = np.searchsorted(self.rows.feature, [feature, feature + 1])
        return slice(int(start), int(stop))


def select_examples(state: State, per_band: int) -> Selection:
    """Top: the ``state.top`` best rows. Bands: of the sampled rows, ``per_band`` of lowest priority in each.

    No text is shown twice for one feature: of rows with one key the best stands for all.
    """
    rows = state.compact().rows
    order = np.lexsort((rows.context, -rows.value, rows.feature))
    rows = rows.take(order)
    distinct = np.sort(np.unique(np.stack([rows.feature.astype(np.int64), rows.key]), axis=1, return_index=True)[1])
    rows = rows.take(distinct)
    band = _bands(rows, state.sums.histogram.cpu().numpy().reshape(-1, N_BINS))
    band[_rank_within(rows.feature.astype(np.int64)) < state.top] = TOP
    places = rows.feature.astype(np.int64) * (len(QUARTERS) + 2) + band
    by_priority = np.lexsort((rows.priority, places))
    chosen = np.zeros(len(rows), dtype=bool)
    chosen[by_priority] = _rank_within(places[by_priority]) < per_band
    kept = np.flatnonzero(chosen | (band == TOP))
    kept = kept[np.lexsort((rows.context[kept], -rows.value[kept], band[kept], rows.feature[kept]))]
    return Selection(rows.take(kept), band[kept])


def band_edges(histograms: NDArray[np.int64]) -> NDArray[np.float32]:
    """[F, 3] activations that cut each feature's firing tokens into quarters, to the bin edge below, highest first."""
    cumulative = np.cumsum(histograms, axis=1)
    totals = cumulative[:, -1:]
    bins = [np.argmax(cumulative > q * totals, axis=1) for q in QUARTERS]
    edges = np.exp2((FIRST_BIN + np.arange(N_BINS)) / PER_OCTAVE).astype(np.float32)
    edges[0] = 0  # the first bin also holds what lies below it
    found: NDArray[np.float32] = edges[np.stack(bins, axis=1)]
    return found


def _bands(rows: Rows, histograms: NDArray[np.int64]) -> NDArray[np.uint8]:
    above = rows.value[:, None] >= band_edges(histograms)[rows.feature]
    return np.asarray(len(QUARTERS) + 1 - above.sum(axis=1), np.uint8)


def _rank_within(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place of each row within its group; ``group`` is sorted."""
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return np.arange(len(group)) - np.repeat(starts, np.diff(starts, append=len(group)))
