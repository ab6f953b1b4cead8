"""Names for clusters of features: what their labels and top tokens say more often than those of other features.

Log-odds with an informative Dirichlet prior (Monroe, Colaresi & Quinn 2008, equations 16, 18 and 22): of n features of
the cluster y have a term, of the m others x have it, and p is PRIOR times the share of all features that have it:

    d = log((y + p) / (n - y + PRIOR - p)) - log((x + p) / (m - x + PRIOR - p))
    z = d / sqrt(1 / (y + p) + 1 / (x + p))

A term names a cluster where z is above LEAST_Z, at least LEAST_FEATURES and LEAST_SHARE of its features have it, and
LEAST_LIFT times as large a part of them as of the others.
A cluster that shares no term goes by the rarer terms of the features in its middle, and says so. Nothing here depends
on chance or on the order of a hash.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jobs.engine.label_words import STOPWORDS

PRIOR = 10.0
LEAST_Z, LEAST_LIFT = 2.33, 2.0
LEAST_FEATURES, LEAST_SHARE = 3, (0.25, 0.35)
TERMS = 3
MAX_TERM = 40
TOO_COMMON = 0.02  # a term that so many features have says nothing of the one in the middle
LABEL, TOKEN = 0, 1
"""Kinds of terms: a word of a label, and a token that a feature makes likelier. The shares are by kind: many features
have the same few odd tokens among those they raise."""

_QUOTED = re.compile(r"“([^”]{1,200})”")
_WORD = re.compile(r"[^\W\d_][\w'\u2019-]+")
_ABOUT = "text about "


@dataclass(frozen=True)
class Name:
    """What a cluster is called, and ``why``: the evidence, a sentence."""

    text: str
    why: str


@dataclass
class Terms:
    """The terms of features as columns: ``add`` each feature once, in any order."""

    texts: list[tuple[int, str]] = field(default_factory=list)
    _numbers: dict[tuple[int, str], int] = field(default_factory=dict)
    _features: list[int] = field(default_factory=list)
    _terms: list[int] = field(default_factory=list)

    def add(self, feature: int, label: str, tokens: Iterable[str], *, by_rule: bool = False) -> None:
        """``tokens``: those whose logits it raises most. ``by_rule``: the label is one of jobs.engine.labels."""
        found = {(LABEL, term) for term in label_terms(label, by_rule=by_rule)}
        found |= {(TOKEN, term) for token in tokens if (term := _term(token)) and _WORD.fullmatch(term)}
        for key in sorted(found):
            number = self._numbers.setdefault(key, len(self.texts))
            if number == len(self.texts):
                self.texts.append(key)
            self._features.append(feature)
            self._terms.append(number)

    def columns(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Feature and number of the term, of every pair."""
        return np.array(self._features, np.int64), np.array(self._terms, np.int64)


def label_terms(label: str, *, by_rule: bool = False) -> set[str]:
    """What a label quotes. Of one that quotes nothing: its subjects or the kind that it names, if it is by rule, else
    its words.
    """
    quoted = {term for part in _QUOTED.findall(label) if (term := _term(part))}
    if quoted:
        return quoted
    if by_rule:
        return {_term(part) for part in label.removeprefix(_ABOUT).split(", ")} - {""}
    words = (word for word in _WORD.findall(label.casefold()) if len(word) > 2 and word not in STOPWORDS)
    return {_term(word) for word in words} - {""}


def name_clusters(cluster: NDArray[np.integer], terms: Terms, middles: Sequence[Sequence[int]]) -> list[Name]:
    """A name for each of the clusters numbered from 0 in ``cluster`` [F]; -1 is none. No two have the same.

    ``middles``: of each cluster the features in its middle, the innermost first.
    """
    feature, term = terms.columns()
    everywhere = np.bincount(term, minlength=len(terms.texts))
    rare = everywhere <= max(1, TOO_COMMON * len(cluster))
    order = np.argsort(cluster[feature], kind="stable")
    ends = np.searchsorted(cluster[feature][order], np.arange(len(middles) + 1))
    names = []
    for number, middle in enumerate(middles):
        inside, size = order[ends[number] : ends[number + 1]], int((cluster == number).sum())
        here = np.bincount(term[inside], minlength=len(terms.texts))
        if chosen := _chosen(terms.texts, here, everywhere - here, size, len(cluster)):
            with_any = np.unique(feature[inside][np.isin(term[inside], chosen)])
            names.append(_name([terms.texts[i] for i in chosen], len(with_any), size))
        else:
            of = [term[inside][feature[inside] == i] for i in middle]
            names.append(_around(middle, [_rarest(terms.texts, own, rare, everywhere) for own in of], number))
    return _told_apart(names)


def log_odds(
    here: NDArray[np.integer], n_here: int, elsewhere: NDArray[np.integer], n_elsewhere: int
) -> NDArray[np.float64]:
    """z of the top of this file, for each term that ``here`` of ``n_here`` and ``elsewhere`` of the others have, one of
    either at least.
    """
    prior = PRIOR * (here + elsewhere) / (n_here + n_elsewhere)
    odds = [
        np.log((count + prior) / (n - count + PRIOR - prior)) for count, n in ((here, n_here), (elsewhere, n_elsewhere))
    ]
    found: NDArray[np.float64] = (odds[0] - odds[1]) / np.sqrt(1 / (here + prior) + 1 / (elsewhere + prior))
    return found


def _chosen(
    texts: Sequence[tuple[int, str]], here: NDArray[np.int64], elsewhere: NDArray[np.int64], size: int, total: int
) -> list[int]:
    """Numbers of at most TERMS terms, none a part of another: words of labels first, then by z."""
    found = np.flatnonzero((here >= LEAST_FEATURES) & (here + elsewhere < total))  # what all have tells nothing
    z = log_odds(here[found], size, elsewhere[found], total - size)
    ranked = sorted((texts[i][0], -score, texts[i][1], i) for i, score in zip(found.tolist(), z.tolist(), strict=True))
    chosen: list[int] = []
    for kind, score, text, i in ranked:
        often = here[i] >= max(LEAST_SHARE[kind], LEAST_LIFT * elsewhere[i] / max(1, total - size)) * size
        fits = -score > LEAST_Z and often
        if fits and len(chosen) < TERMS and not any(_alike(text, texts[j][1]) for j in chosen):
            chosen.append(i)
    return chosen


def _name(chosen: Sequence[tuple[int, str]], with_any: int, size: int) -> Name:
    said = {LABEL: "labels", TOKEN: "the tokens that they make likelier"}
    kinds = " and ".join(said[kind] for kind in sorted({kind for kind, _ in chosen}))
    quoted = ", ".join("→ " * (kind == TOKEN) + f"“{text}”" for kind, text in chosen)
    text = ", ".join("→ " * (kind == TOKEN) + text for kind, text in chosen)
    return Name(text, f"{quoted}: {with_any:,} of {size:,} features, by {kinds}")


def _rarest(
    texts: Sequence[tuple[int, str]], own: NDArray[np.int64], rare: NDArray[np.bool_], everywhere: NDArray[np.int64]
) -> str:
    """Of a feature's ``own`` label terms the one that the fewest have; empty if none of them is rare."""
    found = [(int(everywhere[i]), texts[i][1]) for i in own.tolist() if texts[i][0] == LABEL and rare[i]]
    return min(found, default=(0, ""))[1]


def _around(middle: Sequence[int], inner: Sequence[str], number: int) -> Name:
    chosen: dict[str, int] = {}
    for index, text in zip(middle, inner, strict=True):
        if text and len(chosen) < TERMS and not any(_alike(text, other) for other in chosen):
            chosen[text] = index
    if not chosen:
        return Name(f"cluster {number}", "No word is commoner in their labels and top tokens than elsewhere.")
    said = ", ".join(f"“{text}” ({index})" for text, index in chosen.items())
    return Name(f"around {', '.join(chosen)}", f"No word is commoner here than elsewhere; in the middle: {said}")


def _alike(a: str, b: str) -> bool:
    """Whether one is a part of the other: forms of one word, mostly."""
    short, long = sorted((a, b), key=len)
    return short == long or (len(short) > 2 and short in long)


def _told_apart(names: Sequence[Name]) -> list[Name]:
    """A name that came before gets a number."""
    seen: dict[str, int] = {}
    told = []
    for name in names:
        seen[name.text] = times = seen.get(name.text, 0) + 1
        told.append(Name(name.text if times == 1 else f"{name.text} ({times})", name.why))
    return told


def _term(text: str) -> str:
    """In one form; empty if nothing can be seen of it."""
    cleaned = " ".join(text.replace("…", "").casefold().split())[:MAX_TERM]
    return cleaned if cleaned.isprintable() else ""
