"""Whole numbers in few bits: a column of them is packed by the better of two codes."""

from collections.abc import Sequence
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


def unpack_columns(blobs: Sequence[bytes], at: int, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The columns that begin at byte ``at`` of each blob and end it, of ``counts`` numbers each, one after the other.

    Many short ones take a fifth of the time that they take one by one.
    """
    held = np.flatnonzero(counts)
    blobs, counts = [blobs[int(i)] for i in held], counts[held]
    starts = np.cumsum(counts) - counts
    codes = np.array([blob[at] for blob in blobs], np.int64)
    widths = codes % _RICE
    numbers = np.empty(int(counts.sum()), np.int64)
    for n, width in {*zip(counts.tolist(), widths.tolist(), strict=True)}:
        alike = np.flatnonzero((counts == n) & (widths == width))
        size = (n * width + 7) // 8
        raw = b"".join(blobs[i][at + 1 : at + 1 + size] for i in alike)
        numbers[starts[alike][:, None] + np.arange(n)] = _read_bits(raw, len(alike), n, width)
    ends_low = at + 1 + (counts * widths + 7) // 8
    rice = np.flatnonzero(codes >= _RICE)
    if len(rice):
        ones = _read_unary([blobs[i][ends_low[i] :] for i in rice], counts[rice])
        numbers[_ranges(starts[rice], counts[rice])] += ones << np.repeat(widths[rice], counts[rice])
    return numbers


def _read_bits(raw: bytes, k: int, n: int, width: int) -> NDArray[np.int64]:
    """int64 [k, n]: ``k`` times ``n`` numbers, each time from a new byte on."""
    size = (n * width + 7) // 8
    if width in _WHOLE:
        return np.frombuffer(raw, _WHOLE[width]).reshape(k, n).astype(np.int64)
    if width > 17:
        bits = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(k, size), axis=1, count=n * width)
        return bits.reshape(k, n, width) @ _WEIGHTS[width]
    at = np.arange(n) * width  # a number lies in three bytes
    first = (np.arange(k) * size)[:, None] + (at >> 3)
    held = np.frombuffer(raw + b"\0\0\0", np.uint8).astype(np.int64)
    found: NDArray[np.int64] = (held[first] << 16 | held[first + 1] << 8 | held[first + 2]) >> (24 - width - (at & 7))
    return found & ((1 << width) - 1)


def _read_unary(parts: Sequence[bytes], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """So many ones stand before each of the first zeros of each part."""
    lengths = np.array([len(part) for part in parts], np.int64) * 8
    begin = np.cumsum(lengths) - lengths
    zeros = np.flatnonzero(np.unpackbits(np.frombuffer(b"".join(parts), np.uint8)) == 0)
    ends = zeros[_ranges(np.searchsorted(zeros, begin), counts)]
    before = np.empty_like(ends)
    before[1:] = ends[:-1]
    before[np.cumsum(counts) - counts] = begin - 1
    return ends - before - 1


def _ranges(starts: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """From each start so many numbers on, one range after the other."""
    first = np.cumsum(counts) - counts
    return np.repeat(starts - first, counts) + np.arange(int(counts.sum()))


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
