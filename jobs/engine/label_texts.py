"""The contexts of a run as labels see them: each text once, its words as numbers, and positions drawn from all."""

import functools
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.engine.label_facts import NONE, REACH, FactFinder, Facts
from jobs.engine.label_words import subject_words

_BACKGROUND = 16_384  # positions kept as the background (up to twice as many)
_CACHED = 32_768  # contexts


class Text(NamedTuple):
    """A context: ``words`` are the numbers of its words, int64, each once, ``written`` as each is first written there.

    Contexts of one ``key`` hold the same tokens.
    """

    key: bytes
    ids: NDArray[np.int32]
    words: NDArray[np.int64]
    written: tuple[str, ...]


class KnownWords(NamedTuple):
    """By the number of a word: of the run's ``n_contexts``, how many have it, and its place in the alphabet."""

    n_contexts: int
    n_with: NDArray[np.int64]
    rank: NDArray[np.int64]


class Texts:
    """Reads the contexts of a run once, in order, and again where they are asked for and no longer at hand.

    ``sample`` holds context numbers and positions, int64 [n] each, drawn evenly from all contexts.
    """

    def __init__(self, finder: FactFinder, contexts: Iterable[int], read: Callable[[int], NDArray[np.int32]]) -> None:
        self._finder, self._read = finder, read
        self.context = functools.lru_cache(maxsize=_CACHED)(self._find)
        self._numbers: dict[str, int] = {}  # of words without suffix
        self.sample, self.words = self._read_all(contexts)

    def facts(self, context: NDArray[np.int64], at: NDArray[np.int64]) -> Facts:
        """The facts of positions ``at`` of the contexts of these numbers. Raises ValueError where one is outside."""
        numbers, which = np.unique(context, return_inverse=True)
        ids = [self.context(number).ids for number in numbers.tolist()]
        lengths = np.array([len(one) for one in ids], np.int64)
        outside = np.flatnonzero((at < 0) | (at >= lengths[which]))
        if len(outside):
            length = lengths[which[outside[0]]]
            raise ValueError(f"An example's peak is {at[outside[0]]}, outside its context of {length} tokens.")
        beyond = np.full(REACH, NONE, np.int32)
        row = np.concatenate([beyond, *(part for one in ids for part in (one, beyond))])
        starts = np.cumsum(lengths + REACH) - lengths - REACH
        return self._finder.find(row[(starts[which] + at)[:, None] + np.arange(2 * REACH + 1)])

    def distinct(self, feature: NDArray[np.int64], context: NDArray[np.int64]) -> NDArray[np.intp]:
        """Rows that leave each text of a feature once: the same on both sides of the split would measure nothing."""
        numbers, which = np.unique(context, return_inverse=True)
        first: dict[bytes, int] = {}
        text = np.array([first.setdefault(self.context(n).key, i) for i, n in enumerate(numbers.tolist())], np.int64)
        return np.sort(np.unique(feature * len(numbers) + text[which], return_index=True)[1])

    def _find(self, number: int) -> Text:
        ids = np.ascontiguousarray(self._read(number), dtype=np.int32)
        found = subject_words("".join(self._finder.texts(ids.tolist())))
        words = [self._numbers.setdefault(stem, len(self._numbers)) for stem in found]
        return Text(ids.tobytes(), ids, np.array(words, np.int64), tuple(found.values()))

    def _read_all(self, contexts: Iterable[int]) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], KnownWords]:
        sample: list[tuple[int, int]] = []
        stride, n_contexts = 1, 0
        n_with: Counter[int] = Counter()
        for number in contexts:
            text = self.context(number)
            n_with.update(text.words.tolist())
            # A scattered start: from a fixed one, strides in step with the context length would see one position only.
            start = (n_contexts * 2654435761 >> 8) % stride
            sample.extend((number, at) for at in range(start, len(text.ids), stride))
            if len(sample) >= 2 * _BACKGROUND:
                sample, stride = sample[::2], 2 * stride
            n_contexts += 1
        rank = np.empty(len(self._numbers), np.int64)
        rank[[self._numbers[stem] for stem in sorted(self._numbers)]] = np.arange(len(rank))
        numbers, at = np.array(sample, np.int64).reshape(-1, 2).T
        counts = np.array([n_with[word] for word in range(len(rank))], np.int64)
        return (numbers, at), KnownWords(n_contexts, counts, rank)
