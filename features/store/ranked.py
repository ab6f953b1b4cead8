"""Ranked lists, ids with a value each: logit effects and neighbours."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Ranked:
    """``ids`` uint32 [n] and ``values`` float32 [n], best first."""

    ids: NDArray[np.uint32]
    values: NDArray[np.float32]

    def pairs(self) -> Iterator[tuple[int, float]]:
        return ((int(i), float(v)) for i, v in zip(self.ids, self.values, strict=True))


def pack_ranked(*lists: Ranked) -> bytes:
    """One or more lists of one length, end to end: all ids, then all values."""
    ids = np.concatenate([r.ids for r in lists]).astype("<u4")
    values = np.concatenate([r.values for r in lists]).astype("<f4")
    return ids.tobytes() + values.tobytes()


def unpack_ranked(blob: bytes, n_lists: int = 1) -> list[Ranked]:
    half = len(blob) // 2
    ids = np.frombuffer(blob, "<u4", len(blob) // 8).reshape(n_lists, -1)
    values = np.frombuffer(blob, "<f4", len(blob) // 8, offset=half).reshape(n_lists, -1)
    return [Ranked(i, v) for i, v in zip(ids, values, strict=True)]
