"""The words that tell the texts in which a feature fires from the other texts of a run."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.engine.label_texts import KnownWords

PRIOR_WEIGHT = 0.5  # of the log-odds' Dirichlet prior, beside the words of the examples
COMMON_WORD = 0.2  # a word in more of the other contexts than this names no subject, in any language
LEAST_HITS = 2
LEAST_PART = 0.15  # of a group's contexts
LEAST_Z = 2.0
WORDS_TRIED = 16
WORDS = 3


class TellingWords:
    """For groups of contexts, the words with the highest log-odds; all groups at once, for one by one is slow.

    ``words`` are the numbers of each context's words, each once; ``group`` int64 [n], sorted, is the context's.
    """

    def __init__(self, words: Sequence[NDArray[np.int64]], group: NDArray[np.int64], known: KnownWords) -> None:
        n_groups, size = int(group[-1]) + 1, len(known.n_with)
        n_words = np.array([len(one) for one in words], np.int64)
        # One sort brings the contexts of a word of a group together.
        key = np.concatenate(words) + np.repeat(group * size, n_words)
        at = np.argsort(key, kind="stable")
        key = key[at]
        starts = np.flatnonzero(np.diff(key, prepend=-1))
        count = np.diff(starts, append=len(key))
        members = np.bincount(group, minlength=n_groups)
        kept = count >= np.maximum(LEAST_HITS, LEAST_PART * members)[key[starts] // size]
        starts, count = starts[kept], count[kept]
        owner, word = np.divmod(key[starts], size)
        here = np.bincount(group, n_words, n_groups)
        z = _log_odds(count, members[owner], here[owner], known.n_with[word], known)
        order = np.lexsort((known.rank[word], -z, owner))
        order = order[z[order] >= LEAST_Z]
        self._word, self._z, self._start, self._count = word[order], z[order], starts[order], count[order]
        self._context = np.repeat(np.arange(len(words)), n_words)[at]
        self._first = np.searchsorted(owner[order], np.arange(n_groups + 1))

    def of(self, group: int) -> list[int]:
        """Up to three words, each chosen to reach contexts not reached yet."""
        first, last = (int(i) for i in self._first[group : group + 2])
        tried = slice(first, min(last, first + WORDS_TRIED))
        word, z = self._word[tried].tolist(), self._z[tried].tolist()
        spans = zip(self._start[tried].tolist(), self._count[tried].tolist(), strict=True)
        holders = [set(self._context[start : start + count].tolist()) for start, count in spans]
        left = list(range(len(word)))
        chosen: list[int] = []
        reached: set[int] = set()
        while left and len(chosen) < WORDS:
            best = max(left, key=lambda i: z[i] * (1 + len(holders[i] - reached)))
            left.remove(best)
            chosen.append(word[best])
            reached |= holders[best]
        return chosen


def _log_odds(
    count: NDArray[np.int64],
    members: NDArray[np.int64],
    here: NDArray[np.number],
    n_with: NDArray[np.int64],
    known: KnownWords,
) -> NDArray[np.float64]:
    """The z-scores of the log-odds of words against all other contexts, with an informative prior; 0 for common words.

    Words are counted in contexts, not tokens: a text that repeats a word weighs once. The prior is the run's own
    distribution. Monroe, Colaresi and Quinn (2008), "Fightin' Words", Political Analysis 16(4), equations 16-22.
    """
    everywhere = int(known.n_with.sum())
    prior = PRIOR_WEIGHT * here * (n_with + 1) / (everywhere + 2)
    y_here, y_there = count + prior, n_with - count + prior
    rest_here, rest_there = (1 + PRIOR_WEIGHT) * here - y_here, everywhere + PRIOR_WEIGHT * here - y_there
    z = np.log(y_here * rest_there / (rest_here * y_there)) / np.sqrt(1 / y_here + 1 / y_there)
    return np.where(n_with - count > COMMON_WORD * (known.n_contexts - members), 0, z)
