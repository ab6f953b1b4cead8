"""Many rows at once, as they come: COPY on PostgreSQL, executemany on SQLite, inside the caller's transaction."""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from django.db import connection, models

BATCH = 500  # rows that SQLite gets at a time: memory does not grow with their number


def insert(model: type[models.Model], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert ``rows``: the values of ``columns``, which are field names or ``attname``s, in that order.

    Values are int, float, str, bytes, bool, datetime or None. Columns that are not named take the database's default,
    which Django sets for a key alone. What no database column holds of a text, U+0000 and lone surrogates, becomes
    U+FFFD. ``rows`` must not use the connection: COPY has it to itself.
    """
    fields = _fields(model, columns)
    texts = [i for i, field in enumerate(fields) if isinstance(field, models.CharField | models.TextField)]
    write = _copy if connection.vendor == "postgresql" else _execute_many
    write(model._meta.db_table, fields, _storable(rows, texts))


def update(model: type[models.Model], column: str, rows: Iterable[tuple[int, Any]]) -> None:
    """Set ``column`` of single rows, which are given as (key, value)."""
    quote, field = connection.ops.quote_name, _fields(model, [column])[0]
    statement = f"UPDATE {quote(model._meta.db_table)} SET {quote(field.column)} = %s WHERE id = %s"  # noqa: S608
    pairs = ((value, key) for key, value in rows)
    with connection.cursor() as cursor:
        while batch := list(islice(pairs, BATCH)):
            cursor.executemany(statement, batch)


def reserve(model: type[models.Model], n: int) -> list[int]:
    """``n`` new keys of ``model``, for rows that the rest of this transaction inserts."""
    table = model._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            drawn = "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)"
            cursor.execute(drawn, [table, n])
            return [key for (key,) in cursor.fetchall()]
        cursor.execute("SELECT seq FROM sqlite_sequence WHERE name = %s", [table])
        (last,) = cursor.fetchone() or (0,)
        return list(range(last + 1, last + 1 + n))


def _fields(model: type[models.Model], names: Sequence[str]) -> list[Any]:
    return [model._meta.get_field(name) for name in names]


def _storable(rows: Iterable[Sequence[Any]], texts: Sequence[int]) -> Iterator[list[Any]]:
    for row in rows:
        values = list(row)
        for i in texts:
            values[i] = clean(values[i])
        yield values


def _with_dates(row: Sequence[Any], dates: Sequence[tuple[int, Any]]) -> Sequence[Any]:
    """SQLite has no dates: they become text. All other values go as they are."""
    values = list(row)
    for i, field in dates:
        values[i] = field.get_db_prep_save(values[i], connection)
    return values


def clean(text: str | None) -> str | None:
    """``text`` as a database column can hold it."""
    if text is None or (text.isascii() and "\0" not in text):
        return text
    whole = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return whole.replace("\0", "\N{REPLACEMENT CHARACTER}")


def storable(value: Any) -> Any:
    """JSON as PostgreSQL holds it: without U+0000, lone surrogates and NaN."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean(key): storable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [storable(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _copy(table: str, fields: Sequence[Any], rows: Iterable[Sequence[Any]]) -> None:
    quote = connection.ops.quote_name
    statement = f"COPY {quote(table)} ({', '.join(quote(f.column) for f in fields)}) FROM STDIN (FORMAT BINARY)"
    with connection.cursor() as cursor, connection.wrap_database_errors, cursor.copy(statement) as copy:
        copy.set_types([field.db_type(connection).split("(")[0] for field in fields])
        for row in rows:
            copy.write_row(row)


def _execute_many(table: str, fields: Sequence[Any], rows: Iterable[Sequence[Any]]) -> None:
    quote = connection.ops.quote_name
    names, places = ", ".join(quote(field.column) for field in fields), ", ".join(["%s"] * len(fields))
    statement = f"INSERT INTO {quote(table)} ({names}) VALUES ({places})"  # noqa: S608 - names of our own columns
    dates = [(i, field) for i, field in enumerate(fields) if isinstance(field, models.DateTimeField)]
    prepared = (_with_dates(row, dates) for row in rows) if dates else rows
    with connection.cursor() as cursor:
        waiting = iter(prepared)
        while batch := list(islice(waiting, BATCH)):
            cursor.executemany(statement, batch)
