"""Whole numbers in few bits: a column of them is packed by the better of two codes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_RICE = 128
_WEIGHTS = [1 << np.arange(width - 1, -1, -1, dtype=np.int64) for width in range(64)]
"""Of the bits of a number, by how many it has, highest first."""
_WHOLE = {8: "u1", 16: ">u2", 32: ">u4"}
"""Widths that need no bits: most token ids have one of them."""


def pack_column(values: NDArray[np.integer]) -> bytes:
    """Non-negative numbers below 2**63; b"" for none.

    uint8 w and w bits of each, highest first: all of its bits, or the lowest w of them (Rice 1979) where 128 is added
    to w. The rest of each then follows in unary, as so many ones and a zero. That is shorter where most are small.
    """
    n = len(values)
    if not n:
        return b""
    numbers = np.asarray(values, np.int64)
    width = int(numbers.max()).bit_length()
    mean = float(numbers.sum(dtype=np.float64)) / n
    low = max(0, int(0.7 * mean).bit_length() - 1)  # about the best where small ones are commoner by far
    rest = numbers >> low
    n_unary = n + int(rest.sum())
    if n * low + n_unary >= n * width:
        return bytes([width]) + _bits(numbers, width)
    unary = np.ones(n_unary, np.uint8)
    unary[np.cumsum(rest + 1) - 1] = 0
    return bytes([low | _RICE]) + _bits(numbers, low) + np.packbits(unary).tobytes()


def _bits(numbers: NDArray[np.int64], width: int) -> bytes:
    """The lowest ``width`` bits of each, end to end."""
    bits = np.unpackbits(numbers.astype(">i8").view(np.uint8).reshape(-1, 8), axis=1)
    return np.packbits(bits[:, 64 - width :]).tobytes()


def number_at(blob: bytes, at: int, n: int, position: int) -> int:
    """One of the ``n`` numbers of the column that begins at byte ``at``, at a part of the cost of all."""
    code = blob[at]
    width = code % _RICE
    first, last = position * width, (position + 1) * width
    around = int.from_bytes(blob[at + 1 + first // 8 : at + 1 + (last + 7) // 8], "big")
    low = around >> (-last % 8) & (1 << width) - 1
    if code < _RICE:
        return low
    ends = _ends(blob, at + 1 + (n * width + 7) // 8, position + 1)
    before = ends[position - 1] if position else -1
    return low + (int(ends[position] - before - 1) << width)


def _ends(blob: bytes, at: int, n: int) -> NDArray[np.int64]:
    """The zeros that end the first ``n`` numbers of the unary part that begins at byte ``at``."""
    size = n // 2 + 8  # most often enough: numbers are packed so that two or three bits do
    while True:
        bits = np.unpackbits(np.frombuffer(blob, np.uint8, min(size, len(blob) - at), at))
        ends: NDArray[np.int64] = (bits == 0).nonzero()[0]
        if len(ends) >= n or size >= len(blob) - at:
            return ends[:n]
        size *= 4


class Reader:
    """Reads a blob from its front to its end."""

    def __init__(self, blob: bytes) -> None:
        self.blob, self.at = blob, 0

    def array(self, dtype: str, n: int) -> NDArray[Any]:
        """The next ``n`` values of ``dtype``."""
        found = np.frombuffer(self.blob, dtype, n, self.at)
        self.at += found.nbytes
        return found

    def number(self, dtype: str) -> int:
        return int(self.array(dtype, 1)[0])

    def column(self, n: int) -> NDArray[np.int64]:
        """The next ``n`` numbers of ``pack_column``."""
        if not n:
            return np.empty(0, np.int64)
        code = self.blob[self.at]
        width = code % _RICE
        raw = np.frombuffer(self.blob, np.uint8, (n * width + 7) // 8, self.at + 1)
        self.at += 1 + len(raw)
        if width in _WHOLE:
            numbers: NDArray[np.int64] = raw.view(_WHOLE[width]).astype(np.int64)
        else:
            numbers = np.unpackbits(raw, count=n * width).reshape(n, width) @ _WEIGHTS[width]
        if code < _RICE:
            return numbers
        ends = _ends(self.blob, self.at, n)
        self.at += int(ends[-1]) // 8 + 1
        ones = ends.copy()
        ones[1:] -= ends[:-1] + 1
        return numbers + (ones << width)
