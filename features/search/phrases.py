"""Phrases: what search reads of labels. Whoever writes labels remembers their texts, in the same transaction."""

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any

from django.db import connection as default
from django.db import transaction

from features.search import database, embedding
from features.search.words import indexed

BATCH = 5000

_KNOWN = {
    "sqlite": "SELECT text FROM features_phrase WHERE text IN (SELECT value FROM json_each(%s))",
    "postgresql": "SELECT text FROM features_phrase WHERE text = ANY(%s)",
}
_INSERT = {
    "sqlite": "INSERT INTO features_phrase (text, words, code) VALUES (%s, %s, %s) ON CONFLICT (text) DO NOTHING",
    "postgresql": "INSERT INTO features_phrase (text, words, code) "
    "SELECT * FROM unnest(%s::text[], %s::text[], %s::bytea[]) ON CONFLICT (text) DO NOTHING",
    "signs": "INSERT INTO features_phrase (text, words, signs) "
    "SELECT * FROM unnest(%s::text[], %s::text[], %s::bit(256)[]) ON CONFLICT (text) DO NOTHING",
}


def remember(texts: Iterable[str], connection: Any = default) -> None:
    """Make the phrases of ``texts``, as labels hold them, that are not there yet, with the signs of their vectors.

    Two queries for each BATCH of texts, inside the caller's transaction.
    """
    with transaction.atomic(using=connection.alias):
        # Sorted, so that two who write the same phrases wait for each other instead of both for the other.
        ordered = iter(sorted(set(texts) - {""}))
        while batch := list(islice(ordered, BATCH)):
            missing = sorted(set(batch) - _known(batch, connection))
            if missing:
                _insert(missing, connection)


def _known(texts: list[str], connection: Any) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(_KNOWN[connection.vendor], [json.dumps(texts) if connection.vendor == "sqlite" else texts])
        return {text for (text,) in cursor.fetchall()}


def _insert(texts: list[str], connection: Any) -> None:
    words, codes = [indexed(text) for text in texts], embedding.pack_codes(embedding.embed(texts))
    with connection.cursor() as cursor:
        if connection.vendor != "postgresql":
            cursor.executemany(_INSERT["sqlite"], list(zip(texts, words, codes, strict=True)))
        elif database.has_signs(connection.alias):
            cursor.execute(_INSERT["signs"], [texts, words, [database.bits(code) for code in codes]])
        else:
            cursor.execute(_INSERT["postgresql"], [texts, words, codes])
