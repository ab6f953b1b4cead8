"""The SQL of a search: each arm finds rows by one kind of evidence, and all arms of a search are one query."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from django.db import connection
from django.db.models import QuerySet

from features.models import Feature, lookups
from features.search.query import Query

EXACT, WORDS, INSIDE, PROSE, MEANING, LISTS, MORE, PHRASES, THESE = range(9)
"""Labels that are the query; that hold its words; that hold it within words; explanations; near phrases; contexts; a
row that says that an arm did not read everything there is; phrases themselves; and features that were found already.
"""


class Row(NamedTuple):
    """What every arm selects. ``owner`` is an SAE's key, ``number`` a feature's index; in LISTS a run's and part's, in
    PHRASES ``number`` is a phrase's key.
    """

    arm: int
    owner: int
    number: int
    text: str
    blob: bytes | None


@dataclass(frozen=True)
class Arm:
    sql: str
    params: list[Any]


def fetch(arms: Sequence[Arm]) -> list[Row]:
    """The rows of all arms, in the order of the arms: one query."""
    if not arms:
        return []
    parts = (f"SELECT * FROM ({arm.sql}) arm_{number}" for number, arm in enumerate(arms))  # noqa: S608 - our own
    sql = " UNION ALL ".join(parts)
    with connection.cursor() as cursor:
        cursor.execute(sql, [value for arm in arms for value in arm.params])
        return [Row(*row) for row in cursor.fetchall()]


def among(column: str, values: Sequence[Any]) -> Arm:
    """A condition: ``column`` is one of any number of ``values``, which are one parameter."""
    return Arm(*lookups.among(column, values, connection.vendor))


def labels(arm: int, phrases: Arm, saes: Sequence[int] | None, *, most: int, limit: int) -> Arm:
    """Features, of ``saes`` or of all, whose shown label is one of ``phrases``.

    At most ``most`` phrases are read and ``limit`` features found, in no order, or the database would have to look at
    all there are.
    """
    features = _features_with(saes)
    if connection.vendor == "postgresql":  # it would read a million labels rather than look up a thousand
        borne = "CROSS JOIN LATERAL (SELECT id, text FROM features_label WHERE text = found.text OFFSET 0) l"
    else:
        borne = "CROSS JOIN features_label l ON l.text = found.text"
    sql = f"""
        WITH found AS MATERIALIZED ({phrases.sql} LIMIT {most})
        SELECT * FROM (
            SELECT {arm} AS arm, f.sae_id AS owner, f."index" AS number, l.text AS text, CAST(NULL AS bytea) AS packed
            FROM found {borne} {features.sql} LIMIT {limit}) hits
        UNION ALL {_more(most)}"""  # noqa: S608 - our own names and numbers
    return Arm(sql, phrases.params + features.params)


def texts(phrases: Arm, *, most: int) -> Arm:
    """``phrases`` themselves, at most ``most`` of them."""
    sql = f"""
        WITH found AS MATERIALIZED ({phrases.sql} LIMIT {most})
        SELECT {PHRASES} AS arm, 0 AS owner, found.id AS number, found.text AS text, CAST(NULL AS bytea) AS packed
        FROM found UNION ALL {_more(most)}"""  # noqa: S608 - our own names and numbers
    return Arm(sql, phrases.params)


def these(features: QuerySet[Feature]) -> Arm:
    found, params = features.values("sae_id", "index").query.sql_with_params()
    sql = f"""SELECT {THESE} AS arm, these.sae_id AS owner, these."index" AS number, '' AS text,
        CAST(NULL AS bytea) AS packed FROM ({found}) these"""  # noqa: S608 - Django's own
    return Arm(sql, list(params))


def _more(most: int) -> str:
    """A row of MORE if ``found`` is as long as it may be."""
    return f"SELECT {MORE}, 0, 0, '', NULL FROM (SELECT count(*) AS n FROM found) counted WHERE n >= {most}"  # noqa: S608


def _features_with(saes: Sequence[int] | None) -> Arm:
    """Joins the features, of ``saes`` or of all, that show the label ``l``."""
    scope = among("sae_id", saes) if saes is not None else Arm("1 = 1", [])
    if connection.vendor == "postgresql":
        of = f'SELECT sae_id, "index" FROM features_feature WHERE label_id = l.id AND {scope.sql} OFFSET 0'  # noqa: S608
        return Arm(f"CROSS JOIN LATERAL ({of}) f", scope.params)
    return Arm(f"CROSS JOIN features_feature f ON f.label_id = l.id AND {scope.sql}", scope.params)


def phrases_with_words(query: Query, *, whole: bool = False) -> Arm:
    """Texts of phrases that hold all words of ``query``; an unfinished one too as it is, if ``whole``."""
    keys = [(word, prefix and not whole) for word, prefix in query.index_keys()]
    if connection.vendor == "postgresql":
        found = "features_phrase p WHERE array_to_tsvector(string_to_array(p.words, ' ')) @@ %s::tsquery"
    else:
        found = "features_phrase_words(%s) w JOIN features_phrase p ON p.id = w.rowid"
    return Arm(f"SELECT p.id, p.text FROM {found}", [_asked(keys)])  # noqa: S608


def phrases_with_letters(terms: Sequence[str]) -> Arm:
    """Texts of phrases whose words hold each of ``terms``, of three letters or more, anywhere."""
    grams = sorted({term[i : i + 3] for term in terms for i in range(len(term) - 2)})
    if connection.vendor == "postgresql":
        asked: Any = grams
        found, inside = "features_phrase p WHERE features_grams(p.words) @> %s::text[]", "strpos(p.words, %s) > 0"
    else:
        asked = " AND ".join(f'"{gram}"' for gram in grams)
        found = "features_phrase_grams(%s) w JOIN features_phrase p ON p.id = w.rowid WHERE 1 = 1"
        inside = "instr(p.words, %s) > 0"
    where = "".join(f" AND {inside}" for _ in terms)
    sql = f"SELECT p.id, p.text FROM {found}{where}"  # noqa: S608
    return Arm(sql, [asked, *terms])


def phrases_with_signs(literals: Sequence[str]) -> Arm:
    """Texts of phrases that hold ``literals``, signs alone, found by reading them all."""
    inside = "strpos(p.text, %s) > 0" if connection.vendor == "postgresql" else "instr(p.text, %s) > 0"
    where = " AND ".join(inside for _ in literals)
    sql = f"SELECT p.id, p.text FROM features_phrase p WHERE {where}"  # noqa: S608
    return Arm(sql, list(literals))


def phrases_of(texts: Sequence[str]) -> Arm:
    """These texts, in this order."""
    if connection.vendor == "postgresql":
        return Arm("SELECT t.text FROM unnest(%s::text[]) WITH ORDINALITY t(text, n) ORDER BY n", [list(texts)])
    return Arm("SELECT value AS text FROM json_each(%s) ORDER BY key", [json.dumps(list(texts))])


def explained(query: Query, labels: tuple[int, int], *, most: int) -> Arm:
    """Labels, from the first to the last key of ``labels``, whose explanation has all words of ``query``."""
    if connection.vendor == "postgresql":
        where = "explanation <> '' AND features_prose(explanation) @@ %s::tsquery AND id BETWEEN %s AND %s"
        found = f"SELECT id, explanation FROM features_label WHERE {where}"  # noqa: S608 - our own names
    else:
        found = """SELECT l.id, l.explanation FROM features_label_prose(%s) w JOIN features_label l ON l.id = w.rowid
            WHERE w.rowid BETWEEN %s AND %s"""
    sql = f"""
        WITH found AS MATERIALIZED ({found} LIMIT {most})
        SELECT {PROSE} AS arm, 0 AS owner, found.id AS number, found.explanation AS text, CAST(NULL AS bytea) AS packed
        FROM found UNION ALL {_more(most)}"""  # noqa: S608 - our own names and numbers
    return Arm(sql, [_asked(query.index_keys()), *labels])


def _asked(keys: Sequence[tuple[str, bool]]) -> str:
    """All of these words, or for True those that begin with them, as a full-text index is asked for them."""
    if connection.vendor == "postgresql":
        return " & ".join(f"'{word}'{':*' * prefix}" for word, prefix in keys)
    return " AND ".join(f'"{word}"{"*" * prefix}' for word, prefix in keys)


def explanations(query: Query, saes: Sequence[int] | None, *, most: int, limit: int) -> Arm:
    """Features, of ``saes`` or of all, whose shown label has an explanation with all words of ``query``."""
    if connection.vendor == "postgresql":
        where = "explanation <> '' AND features_prose(explanation) @@ %s::tsquery"
        found, text = f"SELECT id, explanation FROM features_label WHERE {where}", "l.explanation"  # noqa: S608
    else:
        found = "SELECT rowid AS id FROM features_label_prose(%s)"
        text = "(SELECT explanation FROM features_label WHERE id = l.id)"  # read of those features that are asked for
    features = _features_with(saes)
    sql = f"""
        WITH found AS MATERIALIZED ({found} LIMIT {most})
        SELECT * FROM (
            SELECT {PROSE} AS arm, f.sae_id AS owner, f."index" AS number, {text} AS text,
                CAST(NULL AS bytea) AS packed
            FROM found l {features.sql} LIMIT {limit}) hits
        UNION ALL {_more(most)}"""  # noqa: S608 - our own names and numbers
    return Arm(sql, [_asked(query.index_keys()), *features.params])


def lists(query: Query, runs: Sequence[int]) -> Arm:
    """The stretches of the ``runs``' words in which those of ``query`` lie; none of a run that is not indexed."""
    scope, ranges, params = among("c.run_id", runs), [], []
    for word, prefix in query.index_keys():
        ranges.append("(c.first <= %s AND c.last > %s)")
        params += [word.encode() + b"\xff" * prefix, word.encode()]
    sql = f"""
        SELECT {LISTS} AS arm, c.run_id AS owner, c.part AS number, '' AS text, c.packed AS packed
        FROM features_contextwords c JOIN features_run r ON r.id = c.run_id AND r.revision = c.revision
        WHERE {scope.sql} AND ({" OR ".join(ranges)})"""  # noqa: S608 - our own names
    return Arm(sql, scope.params + params)


def pairs(rows: Sequence[tuple[int, int]]) -> tuple[str, list[Any]]:
    """Any number of (run, number), in their order, as a table ``asked``."""
    if connection.vendor == "postgresql":
        columns = [list(column) for column in zip(*rows, strict=True)]
        return "unnest(%s::bigint[], %s::bigint[]) asked(run, number)", columns
    taken = "json_extract(value, '$[0]') AS run, json_extract(value, '$[1]') AS number"
    return f"(SELECT {taken} FROM json_each(%s) ORDER BY key) asked", [json.dumps(rows)]  # noqa: S608
