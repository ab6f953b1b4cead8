"""Made-up texts: contexts of Zipf-like words, and phrases that label features."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.store.contexts import pack_tokens
from tests.scale.vocabulary import Vocabulary

LENGTH = 128
PER_DOCUMENT = 3
N_TOPIC, TOPIC_SHARE, STOP_SHARE = 12, 0.15, 0.11
COMMON = 5.0  # the share of the word at rank r is about 1 / (r + 5), as in English

WHAT = (
    "mentions of", "the word", "phrases about", "words that follow", "names of", "numbers in", "verbs around",
    "adjectives for", "the start of sentences on", "lists with", "negations near", "quotations of",
)  # fmt: skip
WHERE = (
    "in legal texts", "in recipes", "in Python code", "in football reports", "in song lyrics", "in medical papers",
    "in old letters", "in news headlines", "in product reviews", "in chess games", "in church records",
    "in travel guides", "in weather reports", "in crime novels", "in tax forms", "in chemistry", "in mathematics",
    "in patents", "in forum threads", "in obituaries", "in speeches", "in manuals", "in children's books",
    "in film scripts", "in e-mails", "in court rulings", "in biology", "in sailing", "in gardening", "in astronomy",
    "in banking", "in railway timetables", "in poems", "in interviews", "in fantasy", "in dictionaries", "in theology",
    "in job offers", "in logs of machines", "at the end of a paragraph",
)  # fmt: skip


@dataclass(frozen=True)
class Texts:
    """Contexts by number: ids uint16 or wider [n, LENGTH], and the packed tokens of each."""

    ids: NDArray[np.int64]
    packed: list[bytes]


def ranks(rng: np.random.Generator, n: int | tuple[int, ...], among: int) -> NDArray[np.int64]:
    """Zipf-like ranks below ``among``."""
    drawn = COMMON * np.exp(rng.random(n) * np.log((among + COMMON) / COMMON)) - COMMON
    found: NDArray[np.int64] = np.minimum(drawn.astype(np.int64), among - 1)
    return found


def make_texts(words: Vocabulary, n: int, seed: int) -> Texts:
    """``n`` contexts; those of a document share some rarer words, so that a word's places lie together.

    Each step draws from numbers of its own, so that the first contexts are the same however many there are.
    """
    rngs = [np.random.default_rng([seed, 1, step]) for step in range(6)]
    shape, among = (n, LENGTH), len(words.words)
    ids = words.words[ranks(rngs[0], shape, among)]
    topics = rngs[1].integers(min(300, among // 2), among, (n // PER_DOCUMENT + 1, N_TOPIC))
    of_topic = words.words[np.repeat(topics, PER_DOCUMENT, axis=0)[:n]]
    drawn = np.take_along_axis(of_topic, rngs[2].integers(0, N_TOPIC, shape), axis=1)
    ids = np.where(rngs[3].random(shape) < TOPIC_SHARE, drawn, ids)
    stops = words.stops[ranks(rngs[4], shape, len(words.stops))]
    ids = np.where(rngs[5].random(shape) < STOP_SHARE, stops, ids)
    return Texts(ids, [pack_tokens(row) for row in ids])


def make_phrases(words: Vocabulary, n: int, first: int = 0) -> list[str]:
    """``n`` different phrases, a few words each; those from ``first`` on differ from the ones before it."""
    nouns = [word for i in words.words[200:6_000].tolist() if len(word := words.word(i)) >= 4]
    total = len(nouns) * len(WHAT) * len(WHERE)
    step = next(s for s in range(1_000_003, 1_001_000, 2) if np.gcd(s, total) == 1)
    if first + n > total:
        raise ValueError(f"There are {total} phrases, fewer than {first + n}.")
    return [_phrase((k * step) % total, nouns) for k in range(first, first + n)]


def _phrase(number: int, nouns: Sequence[str]) -> str:
    rest, what = divmod(number, len(WHAT))
    noun, where = divmod(rest, len(WHERE))
    return f"{WHAT[what]} {nouns[noun]} {WHERE[where]}"


def explanation(rng: np.random.Generator, words: Vocabulary, phrase: str) -> str:
    """A sentence or two of about 25 words that begin with ``phrase``."""
    some = [words.word(i) for i in words.words[ranks(rng, 18, len(words.words))].tolist()]
    return f"It fires on {phrase}, above all beside {', '.join(some[:5])}. Elsewhere {' '.join(some[5:])}."
