"""Histograms of activations on fixed log2 bins, a quarter of an octave each.

Bin i holds values v with 2**(i/4) <= v < 2**((i+1)/4), edges rounded to float32. Only the stretch from the first to the
last bin that holds anything is kept: int16 number of the first bin, uint8 number of bins, a column of counts.

What was counted elsewhere keeps the bins it was counted in: int16 ELSEWHERE, uint16 number of bins, float32 edges, a
column of counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.store.integers import Reader, pack_column

PER_OCTAVE = 4
ELSEWHERE = -(1 << 15)  # no float32 lies in a bin of this number


@dataclass(frozen=True, slots=True)
class Histogram:
    """``edges`` float32 [n + 1], ``counts`` uint64 [n]; both empty for a feature that never fired."""

    edges: NDArray[np.float32]
    counts: NDArray[np.uint64]

    def quantile(self, q: float) -> float:
        """The lower edge of the bin that the ``q``-quantile falls in: at most a quarter of an octave below it."""
        if not len(self.counts):
            return 0.0
        reached = np.searchsorted(np.cumsum(self.counts), q * float(self.counts.sum()), side="right")
        return float(self.edges[min(int(reached), len(self.counts) - 1)])


def edges(first: int, n: int) -> NDArray[np.float32]:
    """The n + 1 edges of n bins from bin ``first``; infinite where float32 ends."""
    with np.errstate(over="ignore"):
        return np.exp2(np.arange(first, first + n + 1) / PER_OCTAVE).astype(np.float32)


def pack_histogram(first: int, counts: NDArray[np.integer]) -> bytes:
    """``counts`` [n] of the bins from number ``first``; empty bins at both ends are left out."""
    filled = np.flatnonzero(counts)
    if not len(filled):
        return b""
    low, high = int(filled[0]), int(filled[-1]) + 1
    return np.array([first + low], "<i2").tobytes() + bytes([high - low]) + pack_column(counts[low:high])


def pack_edges(histogram: Histogram) -> bytes:
    """A histogram with the bins that it has; with bins of this module's own, the same bytes as ``pack_histogram``."""
    n = len(histogram.counts)
    if not n or not histogram.counts.any():
        return b""
    counts = histogram.counts.astype(np.int64)
    if n < 256 and (first := first_bin(histogram)) is not None:
        return pack_histogram(first, counts)
    head = np.array([ELSEWHERE], "<i2").tobytes() + np.array([n], "<u2").tobytes()
    return head + histogram.edges.astype("<f4").tobytes() + pack_column(counts)


def first_bin(histogram: Histogram) -> int | None:
    """The number of its first bin; None if its bins are not of this module's own, or it has none."""
    n = len(histogram.counts)
    if not n or histogram.edges[0] <= 0:
        return None
    first = round(PER_OCTAVE * float(np.log2(histogram.edges[0])))
    return first if np.array_equal(edges(first, n), histogram.edges) else None


def unpack_histogram(blob: bytes) -> Histogram:
    if not blob:
        return Histogram(np.empty(0, np.float32), np.empty(0, np.uint64))
    reader = Reader(blob)
    if (first := reader.number("<i2")) == ELSEWHERE:
        n = reader.number("<u2")
        return Histogram(reader.array("<f4", n + 1), reader.column(n).astype(np.uint64))
    n = reader.number("u1")
    return Histogram(edges(first, n), reader.column(n).astype(np.uint64))
