"""The full-text and trigram indexes that search keeps beside Django's tables, on each database.

SQLite: FTS5 tables that hold no text of their own, kept in step by triggers. PostgreSQL: GIN indexes over expressions,
which are in step by themselves; trigrams are arrays that our own function makes, as pg_trgm is not on every server, and
codes for pgvector stand in a table of their own where that extension is.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from django.db import DatabaseError, connections, transaction

from features.search.embedding import WIDTH, sign_codes

# Phrase.words are cut into words already, alike for every database: a token is what stands between two spaces.
_AS_CUT = "unicode61 remove_diacritics 0 categories ''L* M* N* P* S* C*''"
_FTS = {
    "features_phrase_words": f"words, content=features_phrase, tokenize='{_AS_CUT}', detail=none",
    "features_phrase_grams": "words, content=features_phrase, tokenize='trigram', detail=none",
    "features_label_prose": "explanation, content=features_label, tokenize='unicode61 remove_diacritics 0'",
}
_TRIGGERS = ("made", "gone", "changed")

_PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~“”‘’…–—«»"  # noqa: RUF001
POSTGRESQL = f"""
CREATE OR REPLACE FUNCTION features_grams(text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT coalesce(array_agg(DISTINCT substr($1, i, 3)), '{{}}') FROM generate_series(1, length($1) - 2) i $$;
CREATE OR REPLACE FUNCTION features_prose(text) RETURNS tsvector LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT AS $$
    SELECT to_tsvector('pg_catalog.simple',
        translate($1, '{_PUNCTUATION.replace("'", "''")}', '{" " * len(_PUNCTUATION)}')) $$;
CREATE INDEX IF NOT EXISTS features_phrase_words ON features_phrase
    USING gin (array_to_tsvector(string_to_array(words, ' '))) WITH (fastupdate = off);
CREATE INDEX IF NOT EXISTS features_phrase_grams ON features_phrase
    USING gin (features_grams(words)) WITH (fastupdate = off);
CREATE INDEX IF NOT EXISTS features_label_prose ON features_label
    USING gin (features_prose(explanation)) WITH (fastupdate = off) WHERE explanation <> '';
"""  # noqa: S608 - names of our own
CODES = """
CREATE TABLE IF NOT EXISTS features_phrase_code (phrase_id bigint PRIMARY KEY, code bit(256) NOT NULL);
CREATE OR REPLACE FUNCTION features_phrase_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    DELETE FROM features_phrase_code WHERE TG_OP = 'TRUNCATE' OR phrase_id = OLD.id;
    RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER features_phrase_gone AFTER DELETE ON features_phrase
    FOR EACH ROW EXECUTE FUNCTION features_phrase_gone();
CREATE OR REPLACE TRIGGER features_phrase_emptied AFTER TRUNCATE ON features_phrase
    FOR EACH STATEMENT EXECUTE FUNCTION features_phrase_gone();
"""
BATCH = 20_000
POSTGRESQL_GONE = """
DROP TRIGGER IF EXISTS features_phrase_gone ON features_phrase;
DROP TRIGGER IF EXISTS features_phrase_emptied ON features_phrase;
DROP FUNCTION IF EXISTS features_phrase_gone();
DROP TABLE IF EXISTS features_phrase_code;
DROP INDEX IF EXISTS features_phrase_words, features_phrase_grams, features_label_prose;
DROP FUNCTION IF EXISTS features_grams(text);
DROP FUNCTION IF EXISTS features_prose(text);
"""


def make(connection: Any) -> None:
    """Make what is not there yet. Django drops triggers where it writes a table of SQLite anew: they come back here."""
    has_codes.cache_clear()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # No index is made on a table while checks of what this transaction wrote are outstanding.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
            cursor.execute(POSTGRESQL)
            _make_codes(connection)
            return
        there = set(connection.introspection.table_names(cursor))
        for name, options in _FTS.items():
            if name not in there:
                cursor.execute(f"CREATE VIRTUAL TABLE {name} USING fts5({options}, content_rowid=id, columnsize=0)")
                cursor.execute(f"INSERT INTO {name} ({name}) VALUES ('rebuild')")  # noqa: S608
            for trigger in _triggers(name):
                cursor.execute(trigger)


def _make_codes(connection: Any) -> None:
    """The table of codes, where pgvector is installed and may be used; without it every process keeps them itself."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")
        if not cursor.fetchone():
            return
        try:
            with transaction.atomic(using=connection.alias):
                cursor.execute("CREATE EXTENSION IF NOT EXISTS vector")
                cursor.execute("SELECT '1'::bit(1) <~> '0'::bit(1)")
        except DatabaseError:  # no right to, or a version that has no distance between bits
            return
        cursor.execute(CODES)
        keep_codes(connection)


def keep_codes(connection: Any) -> None:
    """The codes of phrases that have none yet, BATCH at a time."""
    select = """SELECT p.id, p.vector FROM features_phrase p WHERE p.id > %s AND p.vector <> ''
        AND NOT EXISTS (SELECT 1 FROM features_phrase_code c WHERE c.phrase_id = p.id) ORDER BY p.id LIMIT %s"""
    last = 0
    with connection.cursor() as cursor:
        while True:
            cursor.execute(select, [last, BATCH])
            rows = cursor.fetchall()
            if not rows:
                return
            add_codes(cursor, rows)
            last = rows[-1][0]


def add_codes(cursor: Any, rows: Sequence[tuple[int, bytes]]) -> None:
    """The codes of phrases, of which key and vector are given: one query."""
    whole = [(key, bytes(vector)) for key, vector in rows if vector]
    vectors = np.frombuffer(b"".join(vector for _, vector in whole), np.int8).reshape(-1, WIDTH)
    codes = ["x" + code.tobytes().hex() for code in sign_codes(vectors)]
    insert = (
        "INSERT INTO features_phrase_code SELECT * FROM unnest(%s::bigint[], %s::bit(256)[]) ON CONFLICT DO NOTHING"
    )
    cursor.execute(insert, [[key for key, _ in whole], codes])


@cache
def has_codes(alias: str) -> bool:
    """Whether a database holds codes that pgvector compares. Each process asks it once."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('features_phrase_code')")
        return cursor.fetchone()[0] is not None


def drop(connection: Any) -> None:
    has_codes.cache_clear()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(POSTGRESQL_GONE)
            return
        for name in _FTS:
            for event in _TRIGGERS:
                cursor.execute(f"DROP TRIGGER IF EXISTS {name}_{event}")
            cursor.execute(f"DROP TABLE IF EXISTS {name}")


def rebuild(connection: Any) -> None:
    """The full-text tables of SQLite from the rows that are there; PostgreSQL's indexes need none of it."""
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            for name in _FTS:
                cursor.execute(f"INSERT INTO {name} ({name}) VALUES ('rebuild')")  # noqa: S608


def _triggers(name: str) -> list[str]:
    """What keeps the FTS5 table ``name`` in step. It counts rows: one without text is neither added nor taken out."""
    column, rest = _FTS[name].split(", content=")
    table = rest.split(",")[0]
    add = f"INSERT INTO {name} (rowid, {column}) SELECT new.id, new.{column} WHERE new.{column} <> '';"
    take = (
        f"INSERT INTO {name} ({name}, rowid, {column}) SELECT 'delete', old.id, old.{column} WHERE old.{column} <> '';"
    )
    bodies = {"made": ("INSERT", add), "gone": ("DELETE", take), "changed": (f"UPDATE OF {column}", take + add)}
    return [
        f"CREATE TRIGGER IF NOT EXISTS {name}_{event} AFTER {when} ON {table} BEGIN {what} END"
        for event, (when, what) in bodies.items()
    ]
