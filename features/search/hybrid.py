"""One ranked list out of every way of finding a feature, with the reasons for each hit.

Each way ranks what it finds, and a feature's score is the sum, over the ways that found it, of 1 / (60 + its rank
there) (reciprocal rank fusion, Cormack et al. 2009). Features whose label is what was asked for come before all others.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from features.search import arms
from features.search.arms import Arm, Row
from features.search.marks import Piece, marked, snippet
from features.search.meaning import Near, nearest
from features.search.query import Query
from features.search.scope import Scope
from features.search.text import Mention, context_arms, mentions_in
from features.search.words import split
from features.shown_labels import phrases_of

LABEL, TEXT, MEANING = "label", "text", "meaning"
MODES = ("all", LABEL, TEXT, MEANING)
MOST = 500
"""Features that each way of finding ranks."""
MOST_NEAR = 300
MOST_PHRASES, MOST_PROSE = 500, 1000
"""Distinct texts of labels, and explanations, that each way looks at."""
FUSED = 60
EACH_RUN = 20
"""Contexts of each run that are read at least, however many runs there are."""
MOST_CONTEXTS = 300
NOT_AT_ALL = 3

Key = tuple[int, int]
"""An SAE's key and a feature's index."""


@dataclass(frozen=True)
class Reason:
    """Why a feature was found. ``kind``: "exact label", "label", "explanation", "example text", or "meaning", whose
    ``cosine`` is that of the feature's label. ``pieces`` are what was read, with the words that were found marked.
    """

    kind: str
    pieces: list[Piece]
    cosine: float | None = None
    n_contexts: int | None = None


@dataclass
class Hit:
    """``why`` makes its reasons when they are shown: most hits never are."""

    sae: int
    index: int
    score: float = 0.0
    exact: bool = False
    why: list[Callable[[], Reason]] = field(default_factory=list)

    @property
    def reasons(self) -> list[Reason]:
        """One of each kind. That a label which holds the words means the same goes without saying."""
        found = [make() for make in self.why]
        labelled = any(reason.kind in {"exact label", "label"} for reason in found)
        return [reason for reason in found if reason.cosine is None or not labelled]


@dataclass(frozen=True)
class Results:
    """``hits``, best first. ``capped``: there may be more, as not all was read that holds so common a text."""

    hits: list[Hit]
    capped: bool


def search(query: Query, scope: Scope, mode: str = "all") -> Results:
    """Features of ``scope`` by the ways that ``mode``, one of MODES, names. Three queries at most."""
    near = _near(query, scope) if mode in {"all", MEANING} and query else []
    wanted: list[Arm] = []
    if mode in {"all", LABEL}:
        wanted += _label_arms(query, scope.saes)
    if near:
        wanted.append(_labels(arms.MEANING, arms.phrases_of([n.text for n in near]), scope.saes))
    runs = scope.runs if mode in {"all", TEXT} else {}
    rows = arms.fetch([*wanted, *context_arms(query, list(runs))])
    most = max(MOST_CONTEXTS, EACH_RUN * len(runs))
    mentions, capped = mentions_in(query, rows, runs, most) if query else ([], False)
    return _fused(
        [
            _by_label(query, rows),
            _by_explanation(query, rows),
            _by_mention(query, mentions, scope),
            _by_meaning(near, rows),
        ],
        capped
        or any(n >= MOST or arm == arms.MORE for arm, n in Counter(r.arm for r in rows).items() if arm != arms.LISTS),
    )


def _near(query: Query, scope: Scope) -> list[Near]:
    """Phrases near in meaning, of those that features of ``scope`` show."""
    among = None if scope.saes is None else phrases_of([place.sae for place in scope.chosen])
    return nearest(query.text, MOST_NEAR, among=among)


def _label_arms(query: Query, saes: Sequence[int] | None) -> list[Arm]:
    """Labels that are the query first: there may be too many that merely hold it."""
    if not query:
        return []
    text = query.text.strip('"')
    found = [_labels(arms.EXACT, arms.phrases_of([text, f"“{text}”"]), saes)]
    if query.phrases:
        found.append(_labels(arms.WORDS, arms.phrases_with_words(query, whole=bool(query.pieces)), saes))
        found.append(arms.explanations(query, saes, most=MOST_PROSE, limit=MOST))
    else:
        found.append(_labels(arms.WORDS, arms.phrases_with_signs(query.literals), saes))
    if query.pieces:
        found.append(_labels(arms.INSIDE, arms.phrases_with_letters(query.pieces), saes))
    return found


def _labels(arm: int, phrases: Arm, saes: Sequence[int] | None) -> Arm:
    return arms.labels(arm, phrases, saes, most=MOST_PHRASES, limit=MOST)


@dataclass(frozen=True)
class Ranked:
    """What one way found, best first."""

    keys: list[Key]
    why: list[Callable[[], Reason]]
    n_exact: int = 0


def _by_label(query: Query, rows: Iterable[Row]) -> Ranked:
    """Labels that are the query, then those with its words, then those that hold it within words; short ones first."""
    held = {(row.owner, row.number): row.text for row in rows if row.arm in {arms.EXACT, arms.WORDS, arms.INSIDE}}
    tiers = {text: _tier(query, text) for text in set(held.values())}
    kept = sorted((tiers[text], len(text), key, text) for key, text in held.items() if tiers[text] < NOT_AT_ALL)
    why: list[Callable[[], Reason]] = [partial(_label, query, text, tier) for tier, _, _, text in kept]
    return Ranked([key for _, _, key, _ in kept], why, sum(tier == 0 for tier, *_ in kept))


def _tier(query: Query, text: str) -> int:
    """0: it is the query; 1: it has its words; 2: it holds it within words; NOT_AT_ALL."""
    if text.strip("“”").casefold() == query.text.strip('"').casefold() or tuple(split(text)) == query.words != ():
        return 0
    if query.matches(text):
        return 1
    return 2 if query.label_matches(text) else NOT_AT_ALL


def _label(query: Query, text: str, tier: int) -> Reason:
    spans = query.label_spans(text) or [(0, len(text))]
    return Reason("label" if tier else "exact label", marked(text, spans))


def _by_explanation(query: Query, rows: Iterable[Row]) -> Ranked:
    """Short explanations first."""
    held = [row for row in rows if row.arm == arms.PROSE and query.matches(row.text)]
    held.sort(key=lambda row: (len(row.text), row.owner, row.number))
    return Ranked([(row.owner, row.number) for row in held], [partial(_explanation, query, row.text) for row in held])


def _explanation(query: Query, text: str) -> Reason:
    return Reason("explanation", snippet(text, query.spans(text)))


def _by_mention(query: Query, mentions: Sequence[Mention], scope: Scope) -> Ranked:
    """Features by how many of the contexts that were read cite them; the fewer others do, the better."""
    saes = {place.run: place.sae.pk for place in scope.chosen}
    by_run: dict[int, list[Mention]] = defaultdict(list)
    for mention in mentions:
        by_run[mention.run].append(mention)
    ranked: list[tuple[int, float, Key, Mention]] = []
    for run, found in by_run.items():
        for index, count, rarity, first in _cited(found):
            ranked.append((-count, -rarity, (saes[run], index), found[first]))
    ranked.sort(key=lambda row: row[:3])
    kept = ranked[:MOST]
    return Ranked([key for _, _, key, _ in kept], [partial(_mention, query, found, -n) for n, _, _, found in kept])


def _cited(mentions: Sequence[Mention]) -> list[tuple[int, int, float, int]]:
    """Of one run, the MOST features that most of ``mentions`` cite: index, how many, how rarely, and the first one."""
    sizes = np.array([len(mention.features) for mention in mentions])
    indexes = np.concatenate([mention.features for mention in mentions])
    if not len(indexes):
        return []
    counts = np.bincount(indexes)
    rarity = np.bincount(indexes, 1 / np.repeat(sizes, sizes))
    first = np.zeros(len(counts), np.int64)
    first[indexes[::-1]] = np.repeat(np.arange(len(sizes)), sizes)[::-1]  # of equal places the last one is kept
    score = counts + 0.5 * rarity / rarity.max()
    best = np.argpartition(-score, MOST)[:MOST] if len(score) > MOST else np.arange(len(score))
    return [(i, int(counts[i]), float(rarity[i]), int(first[i])) for i in best.tolist() if counts[i]]


def _mention(query: Query, mention: Mention, n: int) -> Reason:
    return Reason("example text", snippet(mention.text, query.spans(mention.text)), n_contexts=n)


def _by_meaning(near: Sequence[Near], rows: Iterable[Row]) -> Ranked:
    """Features by the cosine of their label."""
    cosines = {found.text: found.cosine for found in near}
    meant = [(-cosines[row.text], row.owner, row.number, row.text) for row in rows if row.arm == arms.MEANING]
    meant.sort()
    why: list[Callable[[], Reason]] = [partial(Reason, "meaning", [Piece(text)], -cosine) for cosine, *_, text in meant]
    return Ranked([(owner, number) for _, owner, number, _ in meant], why)


def _fused(lists: Sequence[Ranked], capped: bool) -> Results:
    hits: dict[Key, Hit] = {}
    for ranked in lists:
        for rank, (key, why) in enumerate(zip(ranked.keys, ranked.why, strict=True), start=1):
            hit = hits.setdefault(key, Hit(*key))
            hit.score += 1 / (FUSED + rank)
            hit.exact = hit.exact or rank <= ranked.n_exact
            hit.why.append(why)
    return Results(sorted(hits.values(), key=lambda h: (not h.exact, -h.score, h.sae, h.index)), capped)
