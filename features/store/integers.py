"""Whole numbers in few bits: a column of them is packed by the better of two codes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_RICE = 128


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
        code = self.number("u1")
        width = code % _RICE
        bits = np.zeros((n, 64), np.uint8)
        raw = self.array("u1", (n * width + 7) // 8)
        bits[:, 64 - width :] = np.unpackbits(raw, count=n * width).reshape(n, width)
        numbers: NDArray[np.int64] = np.packbits(bits, axis=1).view(">i8")[:, 0].astype(np.int64)
        if code < _RICE:
            return numbers
        ends = np.flatnonzero(np.unpackbits(np.frombuffer(self.blob, np.uint8, offset=self.at)) == 0)[:n]
        self.at += int(ends[-1]) // 8 + 1
        return numbers + (np.diff(ends, prepend=-1) - 1 << width)
