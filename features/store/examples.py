"""A feature's examples in one blob: which contexts, in which band, and the activation of every token.

A feature fires on a few tokens of a context, so only those are kept; a token that is not named has activation 0.
Layout, little-endian: uint16 n; then for all n examples uint32 context number, uint8 band, uint16 peak, uint16 number
of firing tokens; then for all firing tokens uint16 position and float32 value.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# The bands of a feature's examples: the highest maxima, then quarters of its firing tokens' activations.
BANDS = ("top", "75-100%", "50-75%", "25-50%", "0-25%")


@dataclass(frozen=True, slots=True)
class Example:
    """One context in which the feature fires: ``positions`` and float32 ``values`` of its firing tokens."""

    context: int
    band: int
    peak: int
    positions: NDArray[np.integer]
    values: NDArray[np.float32]

    @property
    def max_value(self) -> float:
        return float(self.values.max())

    def dense(self, length: int) -> NDArray[np.float32]:
        """The activation of each of the context's ``length`` tokens."""
        row = np.zeros(length, np.float32)
        row[self.positions] = self.values
        return row


@dataclass(frozen=True, slots=True)
class Examples:
    """Examples as columns, in the order in which they are shown. ``ends`` cuts ``positions`` and ``values``."""

    contexts: NDArray[np.integer]
    bands: NDArray[np.integer]
    peaks: NDArray[np.integer]
    ends: NDArray[np.integer]
    positions: NDArray[np.integer]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.contexts)

    def __iter__(self) -> Iterator[Example]:
        start = 0
        columns = zip(self.contexts, self.bands, self.peaks, self.ends, strict=True)
        for context, band, peak, end in columns:
            cut = slice(start, int(end))
            yield Example(int(context), int(band), int(peak), self.positions[cut], self.values[cut])
            start = int(end)


def pack_examples(examples: Examples) -> bytes:
    columns = (
        np.array([len(examples)], "<u2"),
        examples.contexts.astype("<u4"),
        examples.bands.astype("u1"),
        examples.peaks.astype("<u2"),
        np.diff(examples.ends, prepend=0).astype("<u2"),
        examples.positions.astype("<u2"),
        examples.values.astype("<f4"),
    )
    return b"".join(column.tobytes() for column in columns)


def unpack_examples(blob: bytes) -> Examples:
    n = int(np.frombuffer(blob, "<u2", 1)[0])
    at = 2
    columns = []
    for dtype in ("<u4", "u1", "<u2", "<u2"):
        columns.append(np.frombuffer(blob, dtype, n, at))
        at += columns[-1].nbytes
    ends = np.cumsum(columns[3], dtype=np.int64)
    total = int(ends[-1]) if n else 0
    positions = np.frombuffer(blob, "<u2", total, at)
    values = np.frombuffer(blob, "<f4", total, at + positions.nbytes)
    return Examples(columns[0], columns[1], columns[2], ends, positions, values)
