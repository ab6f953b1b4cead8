"""Labels of an SAE's features: by rule on most of the live ones, by models and people on a tenth of all."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from django.contrib.auth.models import User
from django.utils import timezone
from numpy.typing import NDArray

from features.models import Label
from jobs import bulk
from tests.scale.texts import explanation, make_phrases, ranks
from tests.scale.vocabulary import Vocabulary

RULED_SHARE, WRITTEN_SHARE, PERSON_SHARE = 0.6, 0.1, 0.1
COLUMNS = (
    "id", "feature", "run", "source", "text", "explanation", "author", "rule", "precision", "n_held_out", "method",
    "explainer", "created_at",
)  # fmt: skip
CLASSES = (
    "capitalised words", "inner parts of words", "years", "numbers", "punctuation", "line ends", "URLs", "brackets",
    "words in capitals", "Greek letters", "single letters", "code identifiers",
)  # fmt: skip
# The rules' shares on a real run.
RULES = ("token", "class", "form", "after", "before", "pair", "words")
RULE_SHARES = (0.655, 0.17, 0.108, 0.032, 0.017, 0.012, 0.006)


@dataclass(frozen=True)
class Labels:
    """Of one SAE: ``ruled`` and ``written`` are the indexes of the features that have one, with the labels' keys.

    ``phrases`` are the written ones' texts; the first ``n_persons`` of the written are a person's, the rest a model's.
    """

    ruled: NDArray[np.int64]
    rules: list[tuple[str, str]]
    written: NDArray[np.int64]
    phrases: list[str]
    n_persons: int
    rule_keys: range
    written_keys: range

    def shown(self) -> dict[int, int]:
        """By index the key of the label that is shown: one that was written goes before a rule's."""
        found = dict(zip(self.ruled.tolist(), self.rule_keys, strict=True))
        return found | dict(zip(self.written.tolist(), self.written_keys, strict=True))

    def texts(self) -> set[str]:
        return {text for _, text in self.rules} | set(self.phrases)


def make_labels(rng: np.random.Generator, words: Vocabulary, alive: NDArray[np.bool_], first: int) -> Labels:
    """``first``: how many phrases other SAEs have taken."""
    ruled = np.flatnonzero(alive & (rng.random(len(alive)) < RULED_SHARE / alive.mean()))
    written = rng.permutation(len(alive))[: int(WRITTEN_SHARE * len(alive))]
    keys = bulk.reserve(Label, len(ruled) + len(written))
    of_rules = range(keys[0], keys[0] + len(ruled))
    return Labels(
        ruled=ruled,
        rules=_rules(rng, words, len(ruled)),
        written=written,
        phrases=make_phrases(words, len(written), first),
        n_persons=int(PERSON_SHARE * len(written)),
        rule_keys=of_rules,
        written_keys=range(of_rules.stop, of_rules.stop + len(written)),
    )


def label_rows(
    rng: np.random.Generator, words: Vocabulary, labels: Labels, run: int, features: range, people: list[User]
) -> Iterator[tuple[Any, ...]]:
    return chain(_by_rule(rng, labels, run, features), _by_writers(rng, words, labels, features, people))


def _by_rule(rng: np.random.Generator, labels: Labels, run: int, features: range) -> Iterator[tuple[Any, ...]]:
    now = timezone.now()
    n_held_out = rng.integers(6, 13, len(labels.ruled))
    holds = np.rint(n_held_out * rng.uniform(0.2, 1, len(n_held_out)))
    numbers = zip(labels.ruled.tolist(), (holds / n_held_out).tolist(), n_held_out.tolist(), strict=True)
    for key, (rule, text), (index, precision, n) in zip(labels.rule_keys, labels.rules, numbers, strict=True):
        yield key, features[index], run, "rule", text, "", None, rule, precision, n, "", "", now


def _by_writers(
    rng: np.random.Generator, words: Vocabulary, labels: Labels, features: range, people: list[User]
) -> Iterator[tuple[Any, ...]]:
    now = timezone.now()
    some = [explanation(rng, words, phrase) for phrase in labels.phrases[::2]]
    for i, (key, index, text) in enumerate(
        zip(labels.written_keys, labels.written.tolist(), labels.phrases, strict=True)
    ):
        about = "" if i % 2 else some[i // 2]
        if i < labels.n_persons:
            author = people[i % len(people)].pk
            yield key, features[index], None, "person", text, about, author, "", None, None, "", "", now
        else:
            made = ("oai_token-act-pair", "an-explainer-8b")
            yield key, features[index], None, "model", text, about, None, "", None, None, *made, now


def _rules(rng: np.random.Generator, words: Vocabulary, n: int) -> list[tuple[str, str]]:
    """Names of rules and texts in their forms. Words are Zipf-like, and each goes with one of two others."""
    rule = rng.choice(len(RULES), n, p=np.array(RULE_SHARES) / sum(RULE_SHARES)).tolist()
    drawn = ranks(rng, n, len(words.words))
    other = (drawn * 7 + rng.integers(1, 3, n)) % len(words.words)
    several = (rng.random(n) < 0.35).tolist()
    pairs = zip(words.words[drawn].tolist(), words.words[other].tolist(), strict=True)
    found = []
    for kind, more, (one, two) in zip(rule, several, pairs, strict=True):
        found.append((RULES[kind], _rule_text(RULES[kind], more, words.word(one), words.word(two), one)))
    return found


def _rule_text(rule: str, several: bool, one: str, two: str, number: int) -> str:
    tokens = f"“{one}” / “{two}”" if several else f"“{one}”"
    return {
        "token": tokens,
        "class": CLASSES[number % len(CLASSES)],
        "form": f"forms of {tokens}",
        "after": f"after {tokens}",
        "before": f"before {tokens}",
        "pair": f"“{one}” before “{two}”",
        "words": f"text about {one}, {two}",
    }[rule]
