"""The numbers of all features of a run side by side, and the order of the features by each: what a table is sorted,
filtered and counted by, and what a plot is drawn from.

Layout, little-endian: uint8 version (1), uint32 n; n_firing, density, max_activation and mean_activation, each a uint8
(its place in TYPES: the first that holds every number exactly) and n numbers; uint32 n for each of ORDERED, the
features by that column, lowest first, ties by index; two bits a feature, packed one after the other: present, ruled.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from features.store.integers import Reader

VERSION = 1
TYPES = ("<f4", "<f8", "<u4", "<u8")
ORDERED = ("density", "max_activation", "mean_activation")


@dataclass(frozen=True)
class RunColumns:
    """One number for each feature of the SAE, by index: ``n_firing`` int64 [n]; ``density``, ``max_activation`` and
    ``mean_activation`` float64 [n], as the run's Activity rows have them, 0 for what an import did not say; ``ruled``
    bool [n], whether the run gave it a label by rule; ``present`` bool [n], whether the run has a row of it (an import
    may have read some features only). ``ascending`` has a permutation uint32 [n] for each of ORDERED.
    """

    n_firing: NDArray[np.int64]
    density: NDArray[np.float64]
    max_activation: NDArray[np.float64]
    mean_activation: NDArray[np.float64]
    ruled: NDArray[np.bool_]
    present: NDArray[np.bool_]
    ascending: Mapping[str, NDArray[np.uint32]]
    _descending: dict[str, NDArray[np.uint32]] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.density)

    @property
    def nbytes(self) -> int:
        """With the descending orders, which are made when they are asked for."""
        arrays = (self.n_firing, self.density, self.max_activation, self.mean_activation, self.ruled, self.present)
        return sum(a.nbytes for a in arrays) + 2 * sum(a.nbytes for a in self.ascending.values())

    def order(self, name: str, *, descending: bool = False) -> NDArray[np.uint32]:
        """All indexes by column ``name``, one of ORDERED; features with one value stand by index, either way."""
        if not descending:
            return self.ascending[name]
        if name not in self._descending:
            self._descending[name] = _turned(self.ascending[name], getattr(self, name))
        return self._descending[name]


def pack_columns(
    n_firing: NDArray[np.integer],
    density: NDArray[np.floating],
    max_activation: NDArray[np.floating],
    mean_activation: NDArray[np.floating],
    ruled: NDArray[np.bool_] | None = None,
    present: NDArray[np.bool_] | None = None,
) -> bytes:
    """Columns of one length, by index; without ``ruled`` no feature is, without ``present`` every one is."""
    n = len(density)
    floats = [np.asarray(column, np.float64) for column in (density, max_activation, mean_activation)]
    bits = [np.zeros(n, bool) if ruled is None else ruled]
    bits.insert(0, np.ones(n, bool) if present is None else present)
    parts = [bytes([VERSION]), np.array([n], "<u4").tobytes(), _narrow(np.asarray(n_firing), ("<u4", "<u8"))]
    parts += [_narrow(column, ("<f4", "<f8")) for column in floats]
    parts += [np.argsort(column, kind="stable").astype("<u4").tobytes() for column in floats]
    return b"".join(parts + [np.packbits(each).tobytes() for each in bits])


def unpack_columns(blob: bytes) -> RunColumns:
    """Raises ValueError for a version that this code does not know."""
    reader = Reader(blob)
    if (version := reader.number("u1")) != VERSION:
        raise ValueError(f"Columns of version {version} are newer than this code: it reads version {VERSION}.")
    n = reader.number("<u4")
    n_firing, *floats = (reader.array(TYPES[reader.number("u1")], n) for _ in range(4))
    density, highest, mean = (column.astype(np.float64) for column in floats)
    orders = {name: reader.array("<u4", n).astype(np.uint32) for name in ORDERED}
    present, ruled = (np.unpackbits(reader.array("u1", (n + 7) // 8), count=n).astype(bool) for _ in range(2))
    return RunColumns(n_firing.astype(np.int64), density, highest, mean, ruled, present, orders)


def _narrow(column: NDArray[np.generic], types: tuple[str, str]) -> bytes:
    """``column`` as the first of ``types`` if that keeps every number, else as the second."""
    with np.errstate(over="ignore"):
        narrow = column.astype(types[0])
    chosen = types[0] if np.array_equal(narrow.astype(column.dtype), column) else types[1]
    return bytes([TYPES.index(chosen)]) + column.astype(chosen).tobytes()


def _turned(order: NDArray[np.uint32], values: NDArray[np.float64]) -> NDArray[np.uint32]:
    """``order`` from its end, but those that share a value in the order in which they stood."""
    ranked = values[order]
    starts = np.flatnonzero(np.diff(ranked, prepend=np.nan))
    lengths = np.diff(starts, append=len(order))[::-1]
    first = np.cumsum(lengths) - lengths
    turned: NDArray[np.uint32] = order[np.arange(len(order)) + np.repeat(starts[::-1] - first, lengths)]
    return turned
