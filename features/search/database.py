"""The full-text and trigram indexes that search keeps beside Django's tables, on each database.

SQLite: FTS5 tables that hold no text of their own, kept in step by triggers. PostgreSQL: GIN indexes over expressions,
which are in step by themselves; trigrams are arrays that our own function makes, as pg_trgm is not on every server, and
phrases have a column of signs for pgvector where that extension is.
"""

from functools import cache
from typing import Any

from django.db import DatabaseError, connections, transaction

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
-- Rows come in the order of their keys, so pages of these indexes need no room for more.
DO $$ DECLARE key regclass; BEGIN
    FOR key IN SELECT indexrelid FROM pg_index WHERE indisunique AND indrelid IN
        ('features_activity'::regclass, 'features_context'::regclass, 'features_feature'::regclass)
    LOOP EXECUTE format('ALTER INDEX %s SET (fillfactor = 100)', key); END LOOP;
END $$;
"""  # noqa: S608 - names of our own
SIGNS = "ALTER TABLE features_phrase ADD COLUMN IF NOT EXISTS signs bit(256)"
BATCH = 20_000
POSTGRESQL_GONE = """
DROP INDEX IF EXISTS features_phrase_words, features_phrase_grams, features_label_prose;
DROP FUNCTION IF EXISTS features_grams(text);
DROP FUNCTION IF EXISTS features_prose(text);
"""


def make(connection: Any) -> None:
    """Make what is not there yet. Django drops triggers where it writes a table of SQLite anew: they come back here."""
    has_signs.cache_clear()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # No index is made on a table while checks of what this transaction wrote are outstanding.
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")
            cursor.execute(POSTGRESQL)
            make_signs(connection)
            return
        there = set(connection.introspection.table_names(cursor))
        for name, options in _FTS.items():
            if name not in there:
                cursor.execute(f"CREATE VIRTUAL TABLE {name} USING fts5({options}, content_rowid=id, columnsize=0)")
                cursor.execute(f"INSERT INTO {name} ({name}) VALUES ('rebuild')")  # noqa: S608
            for trigger in _triggers(name):
                cursor.execute(trigger)


def make_signs(connection: Any) -> None:
    """The column of signs, where pgvector is installed and may be used; without it every process keeps them itself."""
    if connection.vendor != "postgresql":
        return
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
        cursor.execute(SIGNS)
        _move_codes(cursor)
    has_signs.cache_clear()


def _move_codes(cursor: Any) -> None:
    """What phrases have as bytes becomes signs, BATCH at a time."""
    update = """UPDATE features_phrase p SET signs = given.signs, code = ''
        FROM unnest(%s::bigint[], %s::bit(256)[]) given(id, signs) WHERE p.id = given.id"""
    while True:
        cursor.execute("SELECT id, code FROM features_phrase WHERE code <> '' LIMIT %s", [BATCH])
        rows = cursor.fetchall()
        if not rows:
            return
        cursor.execute(update, [[key for key, _ in rows], [bits(bytes(code)) for _, code in rows]])


def bits(code: bytes) -> str | None:
    """As PostgreSQL reads them; None for none."""
    return f"x{code.hex()}" if code else None


@cache
def has_signs(alias: str) -> bool:
    """Whether a database keeps signs that pgvector compares. Each process asks it once."""
    connection = connections[alias]
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_attribute WHERE attrelid = to_regclass('features_phrase') AND attname = 'signs' "
            "AND NOT attisdropped"
        )
        return cursor.fetchone() is not None


def drop(connection: Any) -> None:
    has_signs.cache_clear()
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
