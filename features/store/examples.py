"""A feature's examples in one blob: which contexts, in which band, and the activation of every token.

A feature fires on a few tokens of a context, so only those are kept; a token that is not named has activation 0.
Layout: uint8 version (1), then columns (features.store.integers): number of examples of each band; context numbers of
all examples, band by band; of those that fire, numbers of firing tokens less 1; of all tokens, the first position in
its context or the step from the one before, less 1; activations; pre-activations of near misses. Values are float32,
exact: uint32 lowest bit pattern, then a column of what each lies above it, as a feature's values share high bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.store.integers import Reader, pack_column

VERSION = 1
# The highest maxima, then quarters of the firing tokens' activations; then contexts in which the feature is silent:
# where it came close, and at random.
BANDS = ("top", "75-100%", "50-75%", "25-50%", "0-25%", "near miss", "silent")
NEAR_MISS, SILENT = 5, 6


@dataclass(frozen=True, slots=True)
class Example:
    """One context: ``positions`` (ascending) and float32 ``values`` of the tokens on which the feature fires.

    A near miss has one position, whose value is a pre-activation; a silent context has none.
    """

    context: int
    band: int
    positions: NDArray[np.integer]
    values: NDArray[np.float32]

    @property
    def fires(self) -> bool:
        return self.band < NEAR_MISS

    @property
    def max_value(self) -> float:
        return float(self.values.max())

    @property
    def peak(self) -> int:
        """The first position of the maximum; -1 in a silent context."""
        return int(self.positions[self.values.argmax()]) if len(self.positions) else -1

    def dense(self, length: int) -> NDArray[np.float32]:
        """The activation of each of the context's ``length`` tokens."""
        row = np.zeros(length, np.float32)
        if self.fires:
            row[self.positions] = self.values
        return row


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples as columns, in the order in which they are shown: ``bands`` ascend. ``ends`` cuts the last two."""

    contexts: NDArray[np.integer]
    bands: NDArray[np.integer]
    ends: NDArray[np.integer]
    positions: NDArray[np.integer]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.contexts)

    def __iter__(self) -> Iterator[Example]:
        start = 0
        for context, band, end in zip(self.contexts, self.bands, self.ends, strict=True):
            cut = slice(start, int(end))
            yield Example(int(context), int(band), self.positions[cut], self.values[cut])
            start = int(end)


def pack_examples(examples: Examples) -> bytes:
    """b"" for none."""
    if not len(examples):
        return b""
    counts = np.bincount(examples.bands, minlength=len(BANDS))
    fire = int(counts[:NEAR_MISS].sum())
    starts = np.concatenate([[0], examples.ends[:-1]])
    lengths = examples.ends - starts
    total = int(lengths[:fire].sum())
    positions = examples.positions.astype(np.int64)
    steps = np.concatenate([positions[:1], np.diff(positions) - 1])
    first = starts[lengths > 0]
    steps[first] = positions[first]
    columns = (
        pack_column(counts),
        pack_column(examples.contexts),
        pack_column(lengths[:fire] - 1),
        pack_column(steps),
        _pack_values(examples.values[:total]),
        _pack_values(examples.values[total:]),
    )
    return bytes([VERSION]) + b"".join(columns)


def unpack_examples(blob: bytes) -> Examples:
    """Raises ValueError for a version that this code does not know."""
    if not blob:
        none = np.empty(0, np.int64)
        return Examples(none, none, none, none, np.empty(0, np.float32))
    reader, counts, contexts = _open(blob)
    fire, near, silent = int(counts[:NEAR_MISS].sum()), int(counts[NEAR_MISS]), int(counts[SILENT])
    lengths = np.concatenate([reader.column(fire) + 1, np.ones(near, np.int64), np.zeros(silent, np.int64)])
    ends = np.cumsum(lengths)
    total = int(ends[-1])
    positions = _positions(reader.column(total), ends - lengths, lengths)
    values = np.concatenate([_read_values(reader, total - near), _read_values(reader, near)])
    return Examples(contexts, np.repeat(np.arange(len(BANDS)), counts), ends, positions, values)


def unpack_top(blob: bytes, n: int) -> list[Example]:
    """The first ``n`` of the highest band, at a part of the cost of all examples."""
    if not blob:
        return []
    reader, counts, contexts = _open(blob)
    fire, shown = int(counts[:NEAR_MISS].sum()), min(n, int(counts[0]))
    if not shown:
        return []
    lengths = reader.column(fire) + 1
    steps = reader.column(int(lengths.sum()) + int(counts[NEAR_MISS]))
    total, lengths = int(lengths.sum()), lengths[:shown]
    ends = np.cumsum(lengths)
    positions = _positions(steps[: ends[-1]], ends - lengths, lengths)
    values = _read_values(reader, total)
    cuts = zip([0, *ends.tolist()], ends.tolist(), strict=False)
    tops = zip(contexts.tolist(), cuts, strict=False)
    return [Example(number, 0, positions[start:end], values[start:end]) for number, (start, end) in tops]


def _open(blob: bytes) -> tuple[Reader, NDArray[np.int64], NDArray[np.int64]]:
    """What is left to read, the number of examples of each band, and the contexts of all."""
    reader = Reader(blob)
    if (version := reader.number("u1")) != VERSION:
        raise ValueError(f"Examples of version {version} are newer than this code: it reads version {VERSION}.")
    counts = reader.column(len(BANDS))
    return reader, counts, reader.column(int(counts.sum()))


def _positions(steps: NDArray[np.int64], starts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    sums = np.zeros(len(steps) + 1, np.int64)
    np.cumsum(steps + 1, out=sums[1:])
    found: NDArray[np.int64] = sums[1:] - 1 - np.repeat(sums[starts], lengths)
    return found


def _pack_values(values: NDArray[np.float32]) -> bytes:
    if not len(values):
        return b""
    bits = values.astype("<f4").view("<u4")
    lowest = bits.min()
    return bytes(lowest.tobytes()) + pack_column(bits - lowest)


def _read_values(reader: Reader, n: int) -> NDArray[np.float32]:
    if not n:
        return np.empty(0, np.float32)
    lowest = reader.number("<u4")
    return (reader.column(n) + lowest).astype(np.uint32).view(np.float32)
