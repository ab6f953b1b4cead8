"""Ranked lists, ids with a value each: logit effects, neighbours, partners.

Layout, little-endian: uint8 number of lists, uint8 length of each, the ids of all lists as one column (as wide as the
highest id needs), then all values as float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.store.integers import Reader, pack_column


@dataclass(frozen=True, slots=True)
class Ranked:
    """``ids`` [n], non-negative, and ``values`` float32 [n], best first."""

    ids: NDArray[np.integer]
    values: NDArray[np.float32]

    def pairs(self) -> Iterator[tuple[int, float]]:
        return zip(self.ids.tolist(), self.values.tolist(), strict=True)


def pack_ranked(*lists: Ranked) -> bytes:
    """Up to 255 lists of up to 255 entries each."""
    ids = np.concatenate([r.ids for r in lists])
    values = np.concatenate([r.values for r in lists]).astype("<f4")
    return bytes([len(lists), *(len(r.ids) for r in lists)]) + pack_column(ids) + values.tobytes()


def unpack_ranked(blob: bytes, n_lists: int = 1) -> list[Ranked]:
    """``n_lists`` lists; those that the blob does not hold were not computed, and are empty."""
    reader = Reader(blob or b"\0")
    lengths = [reader.number("u1") for _ in range(reader.number("u1"))]
    ids, values = reader.column(sum(lengths)), reader.array("<f4", sum(lengths))
    ends = np.cumsum(lengths + [0] * (n_lists - len(lengths)))
    return [Ranked(i, v) for i, v in zip(np.split(ids, ends[:-1]), np.split(values, ends[:-1]), strict=True)]
