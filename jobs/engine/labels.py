"""Offline labels for SAE features: a rule learned on half of a feature's examples, measured on the other half.

No language model is asked. A label names the rule it was made by and the share of held-out examples on which that rule
holds, so that nobody takes it for a person's. Its text may hold anything that vocabularies and corpora hold, bounded
and without control characters; it is plain text, to be escaped where it is shown.
"""

import functools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from jobs.engine.label_words import INNER, TOKEN_CHARS, Fact, Facts, bare, facts_at, quote, shown, subject_words

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
_BACKGROUND = 16_384  # positions kept as the background (up to twice as many)
_REACH = 6  # tokens on each side among which the rest of a word is looked for
_TEXT_CHARS = 60
_CACHED_CONTEXTS = 32_768

_ALTERNATIVES = 3
_LEAST_PART = 0.15  # of the learned examples, for each of several alternatives
_LEAST_PAIR_HITS = 4
_LEAST_PAIR_SHARE = 0.85  # of the examples that fit a pair's first part
_MOST_PAIR_CHANCE = 0.5  # above it the neighbour follows from the token anyway and says nothing new
_PRIOR_WEIGHT = 0.5  # of the log-odds' Dirichlet prior, beside the words of the examples
_LEAST_Z = 2.0
_WORDS_TRIED = 16
_COMMON_WORD = 0.2  # a word in more of the other contexts than this names no subject, in any language


@dataclass(frozen=True, slots=True)
class LabelExample:
    """One context in which the feature fires: int32[T] token ids, float32[T] activations, and where these peak."""

    token_ids: NDArray[np.int32]
    values: NDArray[np.float32]
    peak: int


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


@dataclass(frozen=True, slots=True)
class _Rule:
    """Holds where one of ``facts`` does and, for a pair, ``beside`` too."""

    name: str
    facts: tuple[Fact, ...]
    beside: Fact | None = None

    def holds(self, position: Facts) -> bool:
        return any(fact in position for fact in self.facts) and (self.beside is None or self.beside in position)


_Scored = tuple[float, _Rule]


class Labeller:
    """Labels the features of one run. Built once per run; ``label`` is deterministic and keeps nothing but a cache."""

    def __init__(self, token_text: Sequence[str], contexts: Iterable[NDArray[np.int32]]) -> None:
        """``token_text[id]`` is the decoded string of each vocabulary entry, leading spaces kept, U+FFFD for bytes that
        are no whole character; ids beyond it (padded vocabularies) read as "". ``contexts`` are int32[T], all that the
        run stored: they are read once, in order, and give the frequencies by which chance is judged.
        """
        self._token_text = {i: text[:TOKEN_CHARS] for i, text in enumerate(token_text)}
        self._words = functools.lru_cache(maxsize=_CACHED_CONTEXTS)(self._find_words)
        self._n_contexts = 0
        self._n_contexts_with: Counter[Fact] = Counter()
        sample = self._read(contexts)
        self._n_words = self._n_contexts_with.total()
        self._n_sample = max(1, len(sample))
        self._sample_with: dict[Fact, list[Facts]] = {}
        self._n_sample_with: Counter[Fact] = Counter()
        for position in sample:
            for fact in position:
                self._sample_with.setdefault(fact, []).append(position)
                # A word counts once, at its first token, or its rule would seem vaguer than that of one of its tokens.
                self._n_sample_with[fact] += INNER not in position or fact[0] not in ("word", "form")

    def label(self, examples: Sequence[LabelExample], top_logits: Sequence[int]) -> RuleLabel | None:
        """The best rule for a feature, or None where there are too few examples or no rule beats chance.

        ``examples`` come strongest first, then from lower bands; every second distinct context is held out from
        learning, so that both halves see the whole range. ``top_logits`` are the ids the feature promotes, best first.
        Raises ValueError for a peak outside its context.
        """
        positions = [self._words(key) | self._position(ids, peak) for key, ids, peak in _distinct(examples)]
        if len(positions) < _LEAST_EXAMPLES:
            return None
        learned, held_out = positions[::2], positions[1::2]
        score, rule = max(self._rules(learned, top_logits), key=itemgetter(0), default=(0.0, None))
        if rule is None or score == 0:
            return None
        precision = sum(map(rule.holds, held_out)) / len(held_out)
        return RuleLabel(self._text(rule, learned), rule.name, precision, len(held_out), len(learned))

    def _read(self, contexts: Iterable[NDArray[np.int32]]) -> list[Facts]:
        """Counts the contexts that hold each word, and returns positions drawn evenly from all contexts."""
        sample: list[Facts] = []
        stride = 1
        for number, context in enumerate(contexts):
            ids = np.ascontiguousarray(context, dtype=np.int32)
            self._n_contexts_with.update(self._words(ids.tobytes()).keys())
            # A scattered start: from a fixed one, strides in step with the context length would see one position only.
            start = (number * 2654435761 >> 8) % stride
            sample.extend(self._position(ids, at) for at in range(start, len(ids), stride))
            if len(sample) >= 2 * _BACKGROUND:
                sample, stride = sample[::2], 2 * stride
            self._n_contexts += 1
        return sample

    def _find_words(self, token_ids: bytes) -> Facts:
        """The words of a context (given as its int32 bytes) that may name its subject, each once."""
        return subject_words("".join(self._texts(np.frombuffer(token_ids, dtype=np.int32).tolist())))

    def _texts(self, token_ids: Iterable[int]) -> list[str]:
        text = self._token_text.get
        return [text(i, "") for i in token_ids]

    def _position(self, token_ids: NDArray[np.int32], at: int) -> Facts:
        """The facts of one position but for the words around it."""
        first = max(0, at - _REACH)
        ids, at = token_ids[first : at + _REACH + 1].tolist(), at - first
        texts = self._texts(ids)
        facts = facts_at(texts, at)
        if at + 1 < len(ids):
            facts["logits", str(ids[at + 1])] = texts[at + 1]
        return facts

    def _rules(self, learned: Sequence[Facts], top_logits: Sequence[int]) -> list[_Scored]:
        common = _common_facts(learned)
        at_peak = [
            scored for kind in ("word", "token", "form", "class") for scored in self._one_of(kind, common, learned)
        ]
        return [
            *at_peak,
            *self._pairs(at_peak, learned),
            *self._one_of("after", common, learned),
            *self._one_of("before", common, learned),
            *self._words_around(learned),
            *self._promoted(top_logits, learned),
        ]

    def _one_of(self, kind: str, common: dict[str, list[Fact]], learned: Sequence[Facts]) -> Iterator[_Scored]:
        """The commonest fact of a kind, either of the two commonest, any of the three; each class by itself."""
        found = common.get(kind, [])
        choices = [found[:size] for size in range(1, min(_ALTERNATIVES, len(found)) + 1)]
        for facts in [[fact] for fact in found] if kind == "class" else choices:
            rule = _Rule("token" if kind == "word" else kind, tuple(facts))
            yield _score(rule.name, sum(map(rule.holds, learned)), len(learned), self._chance(facts)), rule

    def _pairs(self, at_peak: Sequence[_Scored], learned: Sequence[Facts]) -> Iterator[_Scored]:
        """The best rule for the peak with the word that nearly always stands beside it, unless it does so anyway."""
        score, base = max(at_peak, key=itemgetter(0), default=(0.0, None))
        if base is None or score == 0 or len(base.facts) == _ALTERNATIVES:
            return
        fitting = [position for position in learned if base.holds(position)]
        counts = Counter(fact for position in fitting for fact in position if fact[0] in ("before", "after"))
        there = [position for fact in base.facts for position in self._sample_with.get(fact, ())]
        for fact, hits in counts.items():
            if "…" in fact[1] or hits < max(_LEAST_PAIR_HITS, _LEAST_PAIR_SHARE * len(fitting)):
                continue
            chance = (sum(fact in position for position in there) + self._chance([fact])) / (len(there) + 1)
            if chance <= _MOST_PAIR_CHANCE:
                rule = _Rule("pair", base.facts, beside=fact)
                yield _score("pair", hits, len(learned), self._chance(base.facts) * chance), rule

    def _words_around(self, learned: Sequence[Facts]) -> Iterator[_Scored]:
        """Words are many and examples few, so some always fit: hits are counted for words that other examples gave."""
        rule = self._telling_words(learned)
        halves = learned[::2], learned[1::2]
        if rule:
            crossed = [(self._telling_words(one), other) for one, other in (halves, halves[::-1])]
            hits = sum(sum(map(half.holds, rest)) for half, rest in crossed if half)
            silent = math.prod(1 - self._n_contexts_with[fact] / max(1, self._n_contexts) for fact in rule.facts)
            yield _score("words", hits, len(learned), 1 - silent), rule

    def _telling_words(self, learned: Sequence[Facts]) -> _Rule | None:
        """Up to three of the words with the highest log-odds, each chosen to reach examples not reached yet."""
        counts = Counter(chain.from_iterable(learned))
        least = max(_LEAST_HITS, _LEAST_PART * len(learned))
        z = self._log_odds(counts, least, len(learned))
        tried = sorted(z, key=lambda fact: (-z[fact], fact))[:_WORDS_TRIED]
        chosen: list[Fact] = []
        while tried and len(chosen) < _ALTERNATIVES:
            missing = [position for position in learned if not any(fact in position for fact in chosen)]
            best = max(tried, key=lambda fact: z[fact] * (1 + sum(fact in position for position in missing)))
            tried.remove(best)
            chosen.append(best)
        return _Rule("words", tuple(chosen)) if chosen else None

    def _log_odds(self, counts: Counter[Fact], least: float, n_learned: int) -> dict[Fact, float]:
        """The z-scores of the log-odds of telling words against all other contexts, with an informative prior.

        Words are counted in contexts, not tokens: a text that repeats a word weighs once. The prior is the run's own
        distribution. Monroe, Colaresi and Quinn (2008), "Fightin' Words", Political Analysis 16(4), equations 16-22.
        """
        words = [(fact, count) for fact, count in counts.items() if fact[0] == "words"]
        here, everywhere = sum(count for _, count in words), self._n_words
        scores: dict[Fact, float] = {}
        for fact, count in words:
            if count < least:
                continue
            known = self._n_contexts_with[fact]
            elsewhere = max(0, known - count)
            if elsewhere > _COMMON_WORD * (self._n_contexts - n_learned):
                continue
            prior = _PRIOR_WEIGHT * here * (known + 1) / (everywhere + 2)
            y_here, y_there = count + prior, elsewhere + prior
            rest_here, rest_there = (1 + _PRIOR_WEIGHT) * here - y_here, everywhere + _PRIOR_WEIGHT * here - y_there
            z = math.log(y_here * rest_there / (rest_here * y_there)) / math.sqrt(1 / y_here + 1 / y_there)
            if z >= _LEAST_Z:
                scores[fact] = z
        return scores

    def _promoted(self, top_logits: Sequence[int], learned: Sequence[Facts]) -> Iterator[_Scored]:
        facts = tuple(("logits", str(i)) for i in dict.fromkeys(top_logits) if bare(self._token_text.get(i, "")))
        if facts:
            rule = _Rule("logits", facts)
            yield _score("logits", sum(map(rule.holds, learned)), len(learned), self._chance(facts)), rule

    def _chance(self, facts: Iterable[Fact]) -> float:
        """How often one of the facts holds at a random position of the run; facts of one kind exclude each other."""
        return sum(self._n_sample_with[fact] for fact in facts) / self._n_sample

    def _text(self, rule: _Rule, learned: Sequence[Facts]) -> str:
        kind = rule.facts[0][0]
        if kind == "logits":
            texts = {text.casefold(): text for text in map(bare, self._texts(int(i) for _, i in rule.facts))}
            return "promotes " + quote(list(texts.values())[:_ALTERNATIVES], ", ", _TEXT_CHARS - len("promotes "))
        written = [_as_written(fact, learned) for fact in rule.facts]
        if kind == "words":
            return "text about " + ", ".join(shown(text, 14) for text in written)
        link = f" {rule.beside[0]} {quote([_as_written(rule.beside, learned)], '', 16)}" if rule.beside else ""
        if kind == "class":
            return written[0] + link
        prefix = {"form": "forms of ", "after": "after ", "before": "before "}.get(kind, "")
        return prefix + quote(written, " / ", _TEXT_CHARS - len(prefix) - len(link)) + link


def _distinct(examples: Sequence[LabelExample]) -> Iterator[tuple[bytes, NDArray[np.int32], int]]:
    """Each context once: the same text on both sides of the split would measure nothing."""
    seen: set[bytes] = set()
    for example in examples:
        ids = np.ascontiguousarray(example.token_ids, dtype=np.int32)
        if not 0 <= example.peak < len(ids):
            raise ValueError(f"An example's peak is {example.peak}, outside its context of {len(ids)} tokens.")
        key = ids.tobytes()
        if key not in seen:
            seen.add(key)
            yield key, ids, example.peak


def _common_facts(learned: Sequence[Facts]) -> dict[str, list[Fact]]:
    """The facts shared by enough of the examples to stand in a rule, by kind, the commonest first."""
    least = max(_LEAST_HITS, _LEAST_PART * len(learned))
    common: dict[str, list[Fact]] = {}
    for fact, count in Counter(chain.from_iterable(learned)).most_common():
        if count < least:
            break
        common.setdefault(fact[0], []).append(fact)
    return common


def _score(rule: str, hits: int, n_learned: int, chance: float) -> float:
    """Prior x share^2 x bits of lift over chance; 0 where the rule is too rare or hardly better than chance.

    The share is of one example more than there are, so that few examples convince less.
    """
    share, chance = hits / (n_learned + 1), max(chance, _RAREST)
    prior, least_share = _WEIGHTS[rule]
    if hits < _LEAST_HITS or share < max(least_share, _LEAST_LIFT * chance):
        return 0.0
    return prior * share**2 * math.log2(share / chance)


def _as_written(fact: Fact, learned: Sequence[Facts]) -> str:
    """The commonest way of writing; the token alone, without "…", where it is now a word and now a part of one."""
    written = Counter(position[fact] for position in learned if fact in position)
    text = written.most_common(1)[0][0]
    return text if fact[0] != "token" or len(written) == 1 else text.strip("…") or text
