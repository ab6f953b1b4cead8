"""The words of a run's contexts: written with them, and looked up to find the contexts that hold a text."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from heapq import nlargest
from typing import Any

import numpy as np
from django.db import connection as default
from numpy.typing import NDArray

from features.search.query import Query
from features.search.words import LONGEST, split
from features.store.contexts import unpack_many_tokens
from features.store.words import Words, pack_words
from features.vocabulary import Tokens, tokens_from

PART = 16_384
"""Contexts that are indexed at once, and looked up at once: neither grows with a run."""
AT_ONCE = 512
"""Contexts that are decoded at once."""
MOST_FORMS = 64
"""Words that an unfinished one stands for, in a part: the commonest."""


@dataclass(frozen=True)
class Found:
    """Of a run, ascending: contexts that hold all words of a query. ``capped``: there may be more."""

    numbers: NDArray[np.int64]
    capped: bool = False


def index_run(run_id: int, revision: int = 0, connection: Any = default) -> None:
    """Index the contexts of a run as they are now; what was there of it goes. Needs a transaction.

    Until this is done for a run and its revision, its contexts are found by reading them one by one. A run whose model
    has no vocabulary has no words.
    """
    columns = "(run_id, revision, part, first, last, packed) VALUES (%s, %s, %s, %s, %s, %s)"
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM features_contextwords WHERE run_id = %s", [run_id])
        for number, part in enumerate(_parts(run_id, connection)):
            stretches = pack_words(_numbers_by_word(part))
            rows = [(run_id, revision, number, s.first, s.last, s.packed) for s in stretches]
            cursor.executemany(f"INSERT INTO features_contextwords {columns}", rows)


def _parts(run_id: int, connection: Any) -> Iterator[list[tuple[int, str]]]:
    """(number, text) of all contexts, PART at a time, ascending."""
    select = "SELECT number, token_ids FROM features_context WHERE run_id = %s AND number > %s ORDER BY number LIMIT %s"
    last, tokens = -1, _tokens(run_id, connection)
    while tokens:
        with connection.cursor() as cursor:
            cursor.execute(select, [run_id, last, PART])
            rows = cursor.fetchall()
        if not rows:
            return
        yield [pair for at in range(0, len(rows), AT_ONCE) for pair in _decoded(rows[at : at + AT_ONCE], tokens)]
        last = rows[-1][0]


def _tokens(run_id: int, connection: Any) -> Tokens | None:
    select = """SELECT v.raw, v.ends, v.special_ids, v.joiner FROM features_vocabulary v
        JOIN features_sae s ON s.model_id = v.model_id JOIN features_run r ON r.sae_id = s.id WHERE r.id = %s"""
    with connection.cursor() as cursor:
        cursor.execute(select, [run_id])
        row = cursor.fetchone()
    return tokens_from(*row) if row else None


def _decoded(rows: Sequence[tuple[int, bytes]], tokens: Tokens) -> Iterator[tuple[int, str]]:
    texts = tokens.decode(unpack_many_tokens([bytes(packed) for _, packed in rows]))
    return zip((number for number, _ in rows), texts, strict=True)


def _numbers_by_word(contexts: Sequence[tuple[int, str]]) -> Mapping[str, NDArray[np.int64]]:
    """Which contexts hold each word, ascending."""
    found: dict[str, list[int]] = {}
    for number, text in contexts:
        for word in {word[:LONGEST] for word in split(text)}:
            found.setdefault(word, []).append(number)
    return {word: np.array(numbers, np.int64) for word, numbers in found.items()}


@dataclass
class Lists:
    """Of one run, by part, the stretches that a query's words lie in."""

    parts: dict[int, list[Words]] = field(default_factory=dict)

    def find(self, query: Query, limit: int) -> Found:
        """The first ``limit`` contexts, part by part until there are so many."""
        keys, found, n, capped = query.index_keys(), [np.empty(0, np.int64)], 0, False
        for _, blobs in sorted(self.parts.items()):
            if n > limit:
                break
            sets = [_holding(blobs, word, prefix=prefix) for word, prefix in keys]
            found.append(reduce(lambda a, b: np.intersect1d(a, b, assume_unique=True), (s.numbers for s in sets)))
            capped = capped or any(s.capped for s in sets)
            n += len(found[-1])
        return Found(np.concatenate(found)[:limit], capped or n > limit)


def _holding(blobs: Sequence[Words], word: str, *, prefix: bool) -> Found:
    """The contexts of ``word``, or of the commonest words that begin with it."""
    places = [(blob, place) for blob in blobs for place in blob.find(word, prefix=prefix)]
    capped = len(places) > MOST_FORMS
    if capped:
        places = nlargest(MOST_FORMS, places, key=lambda found: found[0].count(found[1]))
    lists = [blob.numbers(place) for blob, place in places]
    if len(lists) == 1:
        return Found(lists[0])
    return Found(np.unique(np.concatenate([np.empty(0, np.int64), *lists])), capped)
