"""Features of a run by text: what the filter of its table finds."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from django.db import connection
from django.db.models import QuerySet
from numpy.typing import NDArray

from features.kept import Kept
from features.models import Context, Feature, LanguageModel, Run
from features.search import arms
from features.search.arms import Arm, Row
from features.search.contexts import Found, Lists
from features.search.query import Query
from features.shown_labels import ShownLabels, labels_of
from features.store.contexts import unpack_many_features, unpack_many_tokens, unpack_tokens
from features.store.words import Words
from features.vocabulary import Tokens, tokens_of

MOST_CONTEXTS = 300
"""Contexts that are read for one search."""
MOST_PHRASES = 1000
"""Distinct texts of labels that are looked at."""
MOST_PROSE = 1000
"""Explanations that are looked at."""


@dataclass(frozen=True)
class Matches:
    """``indexes`` ascend. ``capped``: there may be more, as not everything was read that holds so common a text."""

    indexes: NDArray[np.int64]
    capped: bool


_kept: Kept[Matches] = Kept(32 << 20)

Models = Mapping[int, LanguageModel]
"""Of runs, by their keys."""
_ContextRow = tuple[int, bytes, bytes]
"""Run, tokens, features."""


@dataclass(frozen=True)
class Mention:
    """A context with the text that was asked for, and the indexes of the features that cite it."""

    run: int
    tokens: Tokens
    token_ids: bytes
    features: NDArray[np.int64]

    @cached_property
    def text(self) -> str:
        return self.tokens.decode([unpack_tokens(self.token_ids)])[0]


def indexes_matching(run: Run, q: str, among: QuerySet[Feature] | None = None) -> Matches:
    """Features of ``run`` whose shown label, its explanation, their number, or the text of an example matches ``q``.

    Of ``among`` alone, if that is given. A label matches that holds each term anywhere, if that has three letters, else
    as a word; all else word by word. QueryError as Query.parse raises it. Two queries; one more where the run's words
    are not indexed, and one where labels changed since the last search. A process keeps what it found last: pages of
    the same search cost nothing.
    """
    query = Query.parse(q)
    if not query:
        return Matches(np.empty(0, np.int64), capped=False)
    shown = labels_of(run.sae)
    key = (run.pk, run.revision, run.created_at, shown.epoch, shown.last, query.text)
    known = _kept.find(key)
    wanted = [] if known is not None else [*_label_arms(query, shown), *context_arms(query, [run.pk])]
    rows = arms.fetch(wanted if among is None else [*wanted, arms.these(among)])
    if known is None:
        known = _found(run, query, shown, rows)
        _kept.keep(key, known, known.indexes.nbytes)
    if among is None:
        return known
    theirs = [row.number for row in rows if row.arm == arms.THESE]
    return Matches(np.intersect1d(known.indexes, np.array(theirs, np.int64)), known.capped)


def _found(run: Run, query: Query, shown: ShownLabels, rows: Sequence[Row]) -> Matches:
    mentions, capped = mentions_in(query, rows, {run.pk: run.sae.model}, MOST_CONTEXTS)
    found = shown.with_phrases(_matching(arms.PHRASES, query.label_matches, rows))
    found |= shown.with_labels(_matching(arms.PROSE, query.matches, rows))
    for mention in mentions:
        found[mention.features] = True
    if query.text.isdecimal() and int(query.text) < len(found):
        found[int(query.text)] = True
    return Matches(np.flatnonzero(found), capped or any(row.arm == arms.MORE for row in rows))


def _matching(arm: int, matches: Callable[[str], bool], rows: Sequence[Row]) -> list[int]:
    """Numbers of an arm's rows; each text is looked at once, however many bear it."""
    of_arm = [row for row in rows if row.arm == arm]
    good = {text for text in {row.text for row in of_arm} if matches(text)}
    return [row.number for row in of_arm if row.text in good]


def _label_arms(query: Query, shown: ShownLabels) -> list[Arm]:
    """A PHRASES arm and, if there are words, a PROSE arm."""
    found = [arms.texts(label_phrases(query), most=MOST_PHRASES)]
    if query.phrases and shown.between:
        found.append(arms.explained(query, shown.between, most=MOST_PROSE))
    return found


def label_phrases(query: Query) -> Arm:
    """Every phrase that matches ``query``, and some that do not."""
    if query.pieces:
        return arms.phrases_with_letters(query.pieces)
    return arms.phrases_with_words(query) if query.phrases else arms.phrases_with_signs(query.literals)


def context_arms(query: Query, runs: Sequence[int]) -> list[Arm]:
    return [arms.lists(query, runs)] if query.words and runs else []


def mentions_in(query: Query, rows: Iterable[Row], runs: Models, limit: int) -> tuple[list[Mention], bool]:
    """At most ``limit`` contexts of ``runs`` that match, and whether there may be more; ``rows`` of ``context_arms``.

    One query, and one more if some of the runs are not indexed.
    """
    if not runs:
        return [], False
    each = limit // len(runs) + 1
    found = _candidates(query, rows, each)
    numbers = {run: of.numbers[:each] for run, of in found.items()}
    capped = any(of.capped or len(of.numbers) > each for of in found.values())
    read = _read(numbers)
    mentions = _mentions(read, runs, query if query.needs_text else None)
    if plain := [run for run in runs if run not in found]:
        read = _scan(plain, limit)
        mentions += _mentions(read, runs, query)
        capped = capped or len(read) == limit
    return mentions, capped


def _mentions(rows: Sequence[_ContextRow], runs: Models, query: Query | None) -> list[Mention]:
    """Those of ``rows`` whose text matches ``query``; all for None."""
    vocabularies = {run: tokens_of(runs[run]) for run in {run for run, _, _ in rows}}
    kept = rows if query is None else [row for row, text in _with_texts(rows, vocabularies) if query.matches(text)]
    cited = unpack_many_features([packed for _, _, packed in kept])
    return [Mention(run, vocabularies[run], ids, own) for (run, ids, _), own in zip(kept, cited, strict=True)]


def _with_texts(rows: Sequence[_ContextRow], vocabularies: Mapping[int, Tokens]) -> Iterator[tuple[_ContextRow, str]]:
    """Those of a run together: its tokens are looked up at once."""
    for run, tokens in vocabularies.items():
        own = [row for row in rows if row[0] == run]
        yield from zip(own, tokens.decode(unpack_many_tokens([ids for _, ids, _ in own])), strict=True)


def _candidates(query: Query, rows: Iterable[Row], limit: int) -> dict[int, Found]:
    """By run, of those that are indexed, the contexts that hold all words."""
    lists: dict[int, Lists] = {}
    for row in rows:
        if row.arm == arms.LISTS:
            lists.setdefault(row.owner, Lists()).parts.setdefault(row.number, []).append(Words(bytes(row.blob or b"")))
    return {run: of.find(query, limit) for run, of in lists.items()}


def _read(numbers: Mapping[int, NDArray[np.int64]]) -> list[_ContextRow]:
    """These contexts, by run: one query."""
    pairs = [(run, number) for run, found in numbers.items() for number in found.tolist()]
    if not pairs:
        return []
    asked, params = arms.pairs(pairs)
    sql = f"""SELECT c.run_id, c.token_ids, c.features FROM {asked} JOIN features_context c
              ON c.run_id = asked.run AND c.number = asked.number"""  # noqa: S608 - our own names
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        return [(run, bytes(ids), bytes(packed)) for run, ids, packed in cursor.fetchall()]


def _scan(runs: Sequence[int], limit: int) -> list[_ContextRow]:
    """The first contexts of runs that are not indexed: one query."""
    found = Context.objects.filter(run__in=runs).order_by("run_id", "number")
    rows = found.values_list("run_id", "token_ids", "features")[:limit]
    return [(run, bytes(ids), bytes(packed)) for run, ids, packed in rows]
