"""Offline labels for SAE features: a rule learned on half of a feature's examples, measured on the other half.

No language model is asked. A label names the rule it was made by and the share of held-out examples on which that rule
holds, so that nobody takes it for a person's. Its text may hold anything that vocabularies and corpora hold, bounded
and without control characters; it is plain text, to be escaped where it is shown.
"""

import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.engine.label_facts import NONE, FactFinder, Facts
from jobs.engine.label_subjects import TellingWords
from jobs.engine.label_texts import Text, Texts
from jobs.engine.label_words import INNER, bare, quote, shown

RULES: dict[str, str] = {
    "token": "The token where the feature fires most is one of those quoted, or part of that word; "
    "“…” stands for the rest of a longer word.",
    "form": "The token where the feature fires most is a form of one of the words quoted, or part of such a form.",
    "pair": "The token where the feature fires most fits the first part, and the word beside it is the one quoted.",
    "class": "The token where the feature fires most is of the kind named.",
    "after": "The word or mark just before the token where the feature fires most is one of those quoted.",
    "before": "The word or mark just after the token where the feature fires most is one of those quoted.",
    "words": "The text around holds at least one of the words named, which are far commoner there than elsewhere.",
    "logits": "The next token is among those whose logits the feature raises most; the first of them are quoted.",
}

# By rule: its prior, and the least share of the examples on which it has to hold.
_WEIGHTS = {
    "token": (1.0, 0.2),
    "form": (0.95, 0.2),
    "pair": (1.1, 0.3),
    "class": (0.85, 0.4),
    "after": (0.7, 0.35),
    "before": (0.6, 0.35),
    "words": (0.6, 0.3),
    "logits": (0.4, 0.1),
}
_LEAST_EXAMPLES = 4
_LEAST_HITS = 2
_LEAST_LIFT = 3.0
_RAREST = 2.0**-10  # what is rarer than this in the background is simply rare: no rule earns more than ten bits
_TEXT_CHARS = 60
_CACHED_RULES = 1024
_AT_ONCE = 65_536  # examples

_ALTERNATIVES = 3
_LEAST_PART = 0.15  # of the learned examples, for each of several alternatives
_LEAST_PAIR_HITS = 4
_LEAST_PAIR_SHARE = 0.85  # of the examples that fit a pair's first part
_MOST_PAIR_CHANCE = 0.5  # above it the neighbour follows from the token anyway and says nothing new


@dataclass(frozen=True, slots=True)
class RuleLabel:
    """A label, the rule (a key of RULES) that made it, and the share of ``n_held_out`` examples on which it holds.

    The share is of contexts in which the feature fires. It does not say how often the feature stays silent where the
    rule holds.
    """

    text: str
    rule: str
    precision: float
    n_held_out: int
    n_learned: int


class _Examples(NamedTuple):
    """Some features' examples: what is so at their peaks, and the contexts around, one for each."""

    facts: Facts
    contexts: list[Text]
    telling: TellingWords
    halves: TellingWords


class _Rule(NamedTuple):
    """Holds where one of ``facts`` of ``kind`` does, and for a pair what stands ``beside`` (its kind and fact) too.

    A kind is one of label_facts, or "words" for words anywhere in the context.
    """

    name: str
    kind: str
    facts: tuple[int, ...]
    beside: tuple[str, int] | None = None

    def holds(self, examples: _Examples, rows: slice) -> list[bool]:
        """Whether it does, for each of ``rows``."""
        if self.kind == "words":
            wanted = set(self.facts)
            return [not wanted.isdisjoint(context.words.tolist()) for context in examples.contexts[rows]]
        return self.at(examples.facts, rows)

    def at(self, facts: Facts, rows: slice) -> list[bool]:
        """Whether it holds for the words at the peak and beside it."""
        wanted = set(self.facts)
        if self.kind == "class":
            found = [not wanted.isdisjoint(classes) for classes in facts.classes_of(rows)]
        else:
            found = [fact in wanted for fact in facts.number[self.kind][rows].tolist()]
        if self.beside:
            kind, number = self.beside
            found = [
                here and fact == number for here, fact in zip(found, facts.number[kind][rows].tolist(), strict=True)
            ]
        return found


_Scored = tuple[float, _Rule]
_Hits = dict[str, Counter[int]]  # by kind and fact, on how many of the examples learned from it holds


class Labeller:
    """Labels the features of one run. Built once per run; ``labels`` is deterministic."""

    def __init__(
        self, token_text: Sequence[str], contexts: Iterable[int], read: Callable[[int], NDArray[np.int32]]
    ) -> None:
        """``token_text[id]`` is the decoded string of each vocabulary entry, leading spaces kept, U+FFFD for bytes that
        are no whole character; ids beyond it (padded vocabularies) read as "". ``contexts`` are the numbers of all
        contexts that the run stored, and ``read`` gives the int32[T] token ids of one: all are read once, in order, for
        the frequencies by which chance is judged, and again where they are cited and no longer at hand.
        """
        self._finder = FactFinder(token_text)
        self._texts = Texts(self._finder, contexts, read)
        numbers, at = self._texts.sample
        self._sample = self._texts.facts(numbers, at)
        self._n_sample = max(1, len(at))
        self._holding = functools.lru_cache(maxsize=_CACHED_RULES)(self._find_holding)
        self._n_sample_with = _hits(self._sample, slice(None))
        # A word counts once, at its first token, or its rule would seem vaguer than that of one of its tokens.
        inner = self._finder.number("class", INNER)
        outer = [inner not in classes for classes in self._sample.classes_of(slice(None))]
        for kind in ("word", "form"):
            self._n_sample_with[kind] = Counter(self._sample.number[kind][outer].tolist())

    def labels(
        self,
        feature: NDArray[np.integer],
        context: NDArray[np.integer],
        peak: NDArray[np.integer],
        top_logits: NDArray[np.integer],
    ) -> Iterator[tuple[int, RuleLabel]]:
        """The best rule for each feature that has one: not where there are too few examples or no rule beats chance.

        ``feature``, ``context`` and ``peak`` [n] are the examples, sorted by feature, and of a feature strongest first,
        then from lower bands; every second distinct context is held out from learning, so that both halves see the
        whole range. ``top_logits`` [F, m] are the ids each feature promotes, best first. Raises ValueError for a peak
        outside its context. Time grows with n; memory with the different words alone.
        """
        starts = np.flatnonzero(np.diff(feature, prepend=-1))
        parts = starts[np.flatnonzero(np.diff(starts // _AT_ONCE, prepend=-1))].tolist()
        for first, last in pairwise([*parts, len(feature)]):
            some, of, at = (column[first:last].astype(np.int64) for column in (feature, context, peak))
            yield from self._label_some(some, of, at, top_logits)

    def _label_some(
        self,
        feature: NDArray[np.int64],
        context: NDArray[np.int64],
        peak: NDArray[np.int64],
        top_logits: NDArray[np.integer],
    ) -> Iterator[tuple[int, RuleLabel]]:
        kept = self._texts.distinct(feature, context)
        feature = feature[kept]
        starts = np.flatnonzero(np.diff(feature, prepend=-1))
        sizes = np.diff(starts, append=len(feature))
        contexts = [self._texts.context(number) for number in context[kept].tolist()]
        place = np.arange(len(feature)) - np.repeat(starts, sizes)
        group = np.repeat(np.arange(len(starts)), sizes)
        learned = np.flatnonzero(place % 2 == 0)
        telling = self._telling(contexts, learned, group[learned])
        halves = 2 * group[learned] + place[learned] // 2 % 2
        by_half = np.argsort(halves, kind="stable")
        examples = _Examples(
            self._texts.facts(context[kept], peak[kept]),
            contexts,
            telling,
            self._telling(contexts, learned[by_half], halves[by_half]),
        )
        for number, (first, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
            if size >= _LEAST_EXAMPLES:
                index = int(feature[first])
                promoted = [i for i in top_logits[index].tolist() if i >= 0]
                if label := self._label(examples, number, first, first + size, promoted):
                    yield index, label

    def _telling(self, contexts: list[Text], rows: NDArray[np.intp], group: NDArray[np.int64]) -> TellingWords:
        return TellingWords([contexts[row].words for row in rows.tolist()], group, self._texts.words)

    def _label(self, examples: _Examples, group: int, first: int, last: int, top_logits: list[int]) -> RuleLabel | None:
        """The label of the feature whose examples are ``first`` to ``last``."""
        learned, held_out = slice(first, last, 2), slice(first + 1, last, 2)
        score, rule = max(self._rules(examples, learned, group, top_logits), key=itemgetter(0), default=(0.0, None))
        if rule is None or score == 0:
            return None
        held = rule.holds(examples, held_out)
        n_learned = last - first - len(held)
        return RuleLabel(self._text(rule, examples, learned), rule.name, sum(held) / len(held), len(held), n_learned)

    def _rules(self, examples: _Examples, learned: slice, group: int, top_logits: list[int]) -> list[_Scored]:
        n_learned = len(examples.contexts[learned])
        hits = _hits(examples.facts, learned)
        at_peak = [
            scored for kind in ("word", "token", "form", "class") for scored in self._one_of(kind, hits, n_learned)
        ]
        rules = [
            *at_peak,
            *self._pairs(at_peak, hits, examples, learned),
            *self._one_of("after", hits, n_learned),
            *self._one_of("before", hits, n_learned),
        ]
        rules += self._words_around(examples, learned, group, _highest(rules))
        rules += self._promoted(top_logits, hits, n_learned, _highest(rules))
        return rules

    def _one_of(self, kind: str, hits: _Hits, n_learned: int) -> Iterator[_Scored]:
        """The commonest fact of a kind, either of the two commonest, any of the three; each class by itself.

        But for classes a position has one fact of a kind at most, so the hits of several add up.
        """
        least = max(_LEAST_HITS, _LEAST_PART * n_learned)
        found = [fact for fact, count in hits[kind].most_common() if count >= least]
        choices = [found[:size] for size in range(1, min(_ALTERNATIVES, len(found)) + 1)]
        for facts in [[fact] for fact in found] if kind == "class" else choices:
            rule = _Rule("token" if kind == "word" else kind, kind, tuple(facts))
            n_hits = sum(hits[kind][fact] for fact in facts)
            yield _score(rule.name, n_hits, n_learned, self._chance(kind, facts)), rule

    def _pairs(self, at_peak: Sequence[_Scored], hits: _Hits, examples: _Examples, learned: slice) -> Iterator[_Scored]:
        """The best rule for the peak with the word that nearly always stands beside it, unless it does so anyway."""
        score, base = max(at_peak, key=itemgetter(0), default=(0.0, None))
        if base is None or score == 0 or len(base.facts) == _ALTERNATIVES:
            return
        fits = base.holds(examples, learned)
        least = max(_LEAST_PAIR_HITS, _LEAST_PAIR_SHARE * sum(fits))
        if all(count < least for kind in ("after", "before") for count in hits[kind].values()):
            return
        after, before = (examples.facts.number[kind][learned].tolist() for kind in ("after", "before"))
        sides = ((("after", a), ("before", b)) for fit, a, b in zip(fits, after, before, strict=True) if fit)
        counts = Counter(chain.from_iterable(sides))
        for (kind, fact), n_hits in counts.items():
            if n_hits < least or fact == NONE or "…" in self._finder.names[fact]:
                continue
            there = self._holding(base)
            n_beside = int((self._sample.number[kind][there] == fact).sum())
            chance = (n_beside + self._chance(kind, [fact])) / (len(there) + 1)
            if chance <= _MOST_PAIR_CHANCE:
                rule = base._replace(name="pair", beside=(kind, fact))
                yield _score("pair", n_hits, len(fits), self._chance(base.kind, base.facts) * chance), rule

    def _words_around(self, examples: _Examples, learned: slice, group: int, bar: float) -> Iterator[_Scored]:
        """Words are many and examples few, so some always fit: hits are counted for words that other examples gave.

        No rule where even hits in all examples would not bring its score above ``bar``.
        """
        contexts = examples.contexts[learned]
        if _score("words", len(contexts), len(contexts), chance=0) <= bar:
            return
        words, known = examples.telling.of(group), self._texts.words
        chance = 1 - math.prod(1 - int(known.n_with[word]) / known.n_contexts for word in words)
        if not words or _score("words", len(contexts), len(contexts), chance) <= bar:
            return
        crossed = [(set(examples.halves.of(2 * group + half)), contexts[1 - half :: 2]) for half in (0, 1)]
        hits = sum(not half.isdisjoint(context.words.tolist()) for half, rest in crossed for context in rest)
        yield _score("words", hits, len(contexts), chance), _Rule("words", "words", tuple(words))

    def _promoted(self, top_logits: list[int], hits: _Hits, n_learned: int, bar: float) -> Iterator[_Scored]:
        if _score("logits", n_learned, n_learned, chance=0) <= bar:
            return
        named = zip(top_logits, self._finder.texts(top_logits), strict=True)
        ids = tuple(dict.fromkeys(i for i, text in named if bare(text)))
        if ids:
            n_hits = sum(hits["logits"][i] for i in ids)
            yield _score("logits", n_hits, n_learned, self._chance("logits", ids)), _Rule("logits", "logits", ids)

    def _find_holding(self, rule: _Rule) -> NDArray[np.intp]:
        """The positions of the background where ``rule`` holds."""
        return np.flatnonzero(rule.at(self._sample, slice(None)))

    def _chance(self, kind: str, facts: Iterable[int]) -> float:
        """How often one of the facts holds at a random position of the run; facts of one kind exclude each other."""
        return sum(self._n_sample_with[kind][fact] for fact in facts) / self._n_sample

    def _text(self, rule: _Rule, examples: _Examples, learned: slice) -> str:
        kind = rule.kind
        if kind == "words":
            contexts = examples.contexts[learned]
            return "text about " + ", ".join(shown(_word_as_written(word, contexts), 14) for word in rule.facts)
        if kind == "logits":
            texts = {text.casefold(): text for text in map(bare, self._finder.texts(rule.facts))}
            return "promotes " + quote(list(texts.values())[:_ALTERNATIVES], ", ", _TEXT_CHARS - len("promotes "))
        link = ""
        if rule.beside:
            side, fact = rule.beside
            link = f" {side} {quote([self._as_written(side, fact, examples.facts, learned)], '', 16)}"
        if kind == "class":
            return self._finder.names[rule.facts[0]] + link
        written = [self._as_written(kind, fact, examples.facts, learned) for fact in rule.facts]
        prefix = {"form": "forms of ", "after": "after ", "before": "before "}.get(kind, "")
        return prefix + quote(written, " / ", _TEXT_CHARS - len(prefix) - len(link)) + link

    def _as_written(self, kind: str, fact: int, facts: Facts, learned: slice) -> str:
        """The commonest spelling; the token alone, without "…", where it is now a word and now a part of one."""
        columns = zip(facts.number[kind][learned].tolist(), facts.spelling[kind][learned].tolist(), strict=True)
        written = Counter(spelling for number, spelling in columns if number == fact)
        text: str = self._finder.spellings[written.most_common(1)[0][0]]
        return text if kind != "token" or len(written) == 1 else text.strip("…") or text


def _hits(facts: Facts, rows: slice) -> _Hits:
    """How often each fact holds among ``rows``, by kind, in order of first appearance."""
    hits = {kind: Counter(column[rows].tolist()) for kind, column in facts.number.items()}
    hits["class"] = Counter(chain.from_iterable(facts.classes_of(rows)))
    for counts in hits.values():
        counts.pop(NONE, None)
    return hits


def _score(rule: str, hits: int, n_learned: int, chance: float) -> float:
    """Prior x share^2 x bits of lift over chance; 0 where the rule is too rare or hardly better than chance.

    The share is of one example more than there are, so that few examples convince less.
    """
    share, chance = hits / (n_learned + 1), max(chance, _RAREST)
    prior, least_share = _WEIGHTS[rule]
    if hits < _LEAST_HITS or share < max(least_share, _LEAST_LIFT * chance):
        return 0.0
    return prior * share**2 * math.log2(share / chance)


def _highest(rules: Sequence[_Scored]) -> float:
    return max(map(itemgetter(0), rules), default=0.0)


def _word_as_written(word: int, contexts: Sequence[Text]) -> str:
    found = ((context.written, context.words.tolist()) for context in contexts)
    written: Counter[str] = Counter(written[words.index(word)] for written, words in found if word in words)
    return written.most_common(1)[0][0]
