"""From the spool to the columns of Feature and Activity: examples are put into bands, and packed."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.store.examples import Examples, pack_examples, unpack_examples
from features.store.histogram import unpack_histogram
from features.store.ranked import Ranked, pack_ranked, unpack_ranked
from jobs.transfer.records import firing_share
from jobs.transfer.spool import FEATURE, Spool

QUARTERS = (0.75, 0.5, 0.25)


@dataclass(frozen=True, slots=True)
class Found:
    """What the files say of one feature; ``row`` is None where they only hold examples of it, or labels."""

    index: int
    row: dict[str, Any] | None
    examples: list[tuple[Any, ...]]


def found(spool: Spool) -> Iterator[Found]:
    """Every feature with a record or an example, by index."""
    rows = _Peekable(spool.db.execute(f"SELECT {', '.join(FEATURE)} FROM features ORDER BY idx"))  # noqa: S608
    joined = spool.db.execute(
        "SELECT e.idx, c.final, e.low, e.peak, e.positions, e.strengths FROM examples e "
        "JOIN contexts c ON c.number = e.context ORDER BY e.idx, e.rowid"
    )
    groups = _Peekable((index, list(group)) for index, group in groupby(joined, lambda row: row[0]))
    while (index := min(rows.index, groups.index)) < _Peekable.END:
        row = dict(zip(FEATURE, rows.take(), strict=True)) if rows.index == index else None
        examples = groups.take()[1] if groups.index == index else []
        yield Found(index, row, examples)


class _Peekable:
    """Rows that begin with a feature's number, ascending; ``index`` is the next one's."""

    END = 1 << 62

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._rows = rows
        self.take()

    def take(self) -> tuple[Any, ...]:
        taken = getattr(self, "_next", ())
        self._next: tuple[Any, ...] = next(self._rows, (self.END,))
        self.index: int = self._next[0]
        return taken


def pack(examples: list[tuple[Any, ...]], histogram: bytes) -> bytes:
    """Rows of one feature as its page shows them: each context once, strongest first in its band.

    The top group stays as it is; of the others the band is the quarter of the counted activations that the maximum
    lies in. Where nothing was counted, it follows from the order of the intervals.
    """
    best: dict[int, tuple[Any, ...]] = {}
    for row in sorted(examples, key=lambda row: (row[2] is not None, -row[3], row[1])):
        best.setdefault(row[1], row)
    rows = list(best.values())
    bands = _bands(rows, histogram)
    order = sorted(range(len(rows)), key=lambda i: (bands[i], -rows[i][3], rows[i][1]))
    positions = [np.frombuffer(rows[i][4], "<u4").astype(np.int64) for i in order]
    return pack_examples(
        Examples(
            contexts=np.array([rows[i][1] for i in order], np.int64),
            bands=np.array([bands[i] for i in order], np.int64),
            ends=np.cumsum([len(where) for where in positions]),
            positions=np.concatenate(positions),
            values=np.concatenate([np.frombuffer(rows[i][5], "<f4") for i in order]),
        )
    )


def _bands(rows: list[tuple[Any, ...]], histogram: bytes) -> list[int]:
    counted = unpack_histogram(histogram)
    if len(counted.counts):
        shares = firing_share(counted, [row[3] for row in rows])
        quarters = [1 + sum(share < limit for limit in QUARTERS) for share in shares]
    else:
        lows = sorted({row[2] for row in rows if row[2] is not None}, reverse=True)
        place = {low: 1 + 4 * i // len(lows) for i, low in enumerate(lows)}
        quarters = [place.get(row[2], 0) for row in rows]
    return [0 if row[2] is None else quarter for row, quarter in zip(rows, quarters, strict=True)]


def with_numbers(packed: bytes, n_lists: int, numbers: NDArray[np.int64] | None) -> bytes:
    """Ranked lists of the files' token numbers with the numbers that those have here."""
    if numbers is None:
        return packed
    lists = unpack_ranked(packed, n_lists)
    return pack_ranked(*(Ranked(renumbered(r.ids, numbers), r.values) for r in lists))


def renumbered(ids: NDArray[np.integer], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers beyond the files' vocabulary, padded rows of an embedding, stay what they are."""
    ids = ids.astype(np.int64)
    within = ids < len(numbers)
    return np.where(within, numbers[np.where(within, ids, 0)], ids)


def peak_of(packed: bytes) -> float:
    """The highest value among the examples in which the feature fires; 0 for none."""
    values = [example.max_value for example in unpack_examples(packed) if example.fires]
    return max(values, default=0.0)
