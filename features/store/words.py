"""Which contexts hold a word: lists of words, each with the numbers of its contexts, a stretch of the alphabet a blob.

Layout: uint32 length of the words and of the sizes, the words (UTF-8, ascending by their bytes, one a line, deflated),
their sizes as a column (features.store.integers): how many contexts each has and how many bytes those take, then for
every word the steps from each context's number to the next higher as a column.
"""

import zlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.store.integers import Reader, pack_column

BLOB_BYTES = 8192
"""About how many bytes of numbers go into a blob."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """All words from ``first`` on, up to ``last``, which begins the next stretch: UTF-8."""

    first: bytes
    last: bytes
    packed: bytes


def pack_words(numbers: Mapping[str, NDArray[np.integer]]) -> Iterator[Stretch]:
    """The stretches of ``numbers``, the contexts of each word, ascending. They leave no gap: b"" to b"\\xff"."""
    words = sorted(word.encode() for word in numbers)
    start, first, size = 0, b"", 0
    columns: list[tuple[int, bytes]] = []
    for at, word in enumerate(words):
        if size >= BLOB_BYTES:
            yield Stretch(first, word, _blob(words[start:at], columns))
            start, first, size, columns = at, word, 0, []
        found = numbers[word.decode()]
        columns.append((len(found), pack_column(np.diff(found, prepend=0))))
        size += len(columns[-1][1])
    yield Stretch(first, b"\xff", _blob(words[start:], columns))


def _blob(words: list[bytes], columns: list[tuple[int, bytes]]) -> bytes:
    names = zlib.compress(b"\n".join(words), 9)
    sizes = pack_column(np.array([[n, len(blob)] for n, blob in columns], np.int64).reshape(-1))
    head = np.array([len(names), len(words)], "<u4").tobytes()
    return head + names + sizes + b"".join(blob for _, blob in columns)


class Words:
    """A blob, read as far as it is asked."""

    def __init__(self, packed: bytes) -> None:
        reader = Reader(packed)
        length, n = reader.number("<u4"), reader.number("<u4")
        self._words = zlib.decompress(reader.array("u1", length).tobytes()).split(b"\n") if n else []
        sizes = reader.column(2 * n).reshape(n, 2)
        self._counts = sizes[:, 0]
        self._edges = reader.at + np.concatenate([[0], np.cumsum(sizes[:, 1])])
        self._packed = packed

    def find(self, word: str, *, prefix: bool) -> range:
        """The places of ``word``, or of all words that begin with it."""
        key = word.encode()
        start = bisect_left(self._words, key)
        stop = bisect_left(self._words, key + b"\xff") if prefix else start + (self._words[start : start + 1] == [key])
        return range(start, stop)

    def count(self, place: int) -> int:
        """How many contexts hold the word at ``place``."""
        return int(self._counts[place])

    def numbers(self, place: int) -> NDArray[np.int64]:
        """The numbers of those contexts, ascending."""
        start, stop = self._edges[place : place + 2]
        return np.cumsum(Reader(self._packed[start:stop]).column(self.count(place)))
