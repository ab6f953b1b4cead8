"""Phrases near in meaning: found by the signs of their vectors' numbers, ranked by their cosines.

Of 600,000 phrases the 1,000 whose 256 signs differ least from the query's hold the ten nearest by cosine, in all that
was measured, and 99.8 % of the nearest fifty. Each process keeps the signs in memory, 40 bytes a phrase, and adds to
them what is new whenever it searches: it compares 200,000 phrases in the time in which pgvector compares 20,000. Beyond
MOST_KEPT phrases memory is dearer than time, and pgvector is asked where PostgreSQL has it. Vectors are made of the
texts anew, which takes about 15 microseconds each and no room.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import numpy as np
from django.db import connection
from numpy.typing import NDArray

from features.search import arms, database
from features.search.embedding import WIDTH, cosines, embed, sign_codes

CANDIDATES = 1000
LEAST_COSINE = 0.25
"""Of two labels drawn at random one pair in a hundred is nearer than that."""
BATCH = 20_000
RECHECK_SECONDS = 600

MOST_KEPT = 5_000_000
"""Phrases whose signs a process keeps, where pgvector can do without."""
WIDER = 3
"""So many times as many phrases are read where those that are asked for are not known to the database."""

_NEAR = """SELECT id, text, '' FROM features_phrase WHERE signs IS NOT NULL
    ORDER BY signs <~> %s::bit(256) LIMIT %s"""

_Rows = list[tuple[int, str, bytes]]
Keys = NDArray[np.bool_]
"""A set of keys: True at each that is in it."""


@dataclass(frozen=True)
class Near:
    text: str
    cosine: float


def nearest(text: str, n: int, candidates: int = CANDIDATES, among: Keys | None = None) -> list[Near]:
    """At most ``n`` phrases of a cosine of LEAST_COSINE or more, nearest first, out of so many ``candidates``.

    ``among``: of these alone. One query; the first of a process reads the signs of all phrases.
    """
    (vector,) = embed([text])
    if not vector.any():
        return []
    code = sign_codes(vector[None])
    texts = [text for key, text, _ in _rows(code, candidates, among) if among is None or _has(among, key)][:candidates]
    found = cosines(vector, embed(texts))
    order = [i for i in np.argsort(-found, kind="stable").tolist() if found[i] >= LEAST_COSINE]
    return [Near(texts[i], float(found[i])) for i in order[:n]]


def _rows(code: NDArray[np.uint8], candidates: int, among: Keys | None) -> _Rows:
    if not (database.has_signs(connection.alias) and _kept.are_too_many()):
        return _kept.nearest(code.view(np.uint64)[0], candidates, among)
    with connection.cursor() as cursor:
        cursor.execute(_NEAR, ["x" + code.tobytes().hex(), candidates * (1 if among is None else WIDER)])
        return list(cursor.fetchall())


def _has(among: Keys, key: int) -> bool:
    return key < len(among) and bool(among[key])


@dataclass
class Codes:
    """The signs of all phrases, in memory: ``ids`` int64 [n] ascending, ``codes`` uint64 [n, 4]."""

    ids: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    codes: NDArray[np.uint64] = field(default_factory=lambda: np.empty((0, 4), np.uint64))
    last: tuple[int, bytes] = (0, b"")
    checked: float = 0.0
    counted: tuple[float, int] = (float("-inf"), 0)
    lock: Lock = field(default_factory=Lock)

    def are_too_many(self) -> bool:
        """Whether there are more than MOST_KEPT: asked now and then."""
        if time.monotonic() - self.counted[0] > RECHECK_SECONDS:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM features_phrase")
                self.counted = time.monotonic(), cursor.fetchone()[0]
        return self.counted[1] > MOST_KEPT

    def nearest(self, code: NDArray[np.uint64], candidates: int, among: Keys | None = None) -> _Rows:
        """The phrases whose signs differ least from ``code``, and all that are newer than what is kept: one query."""
        with self.lock:
            if not len(self.ids) or self._is_to_check():
                self._load()
            rows = self._read(self._closest(code, candidates, among))
            if self._is_of_another_database(rows):
                self._load()
                rows = self._read(self._closest(code, candidates, among))
            self._add([row for row in rows if row[0] > self.last[0]])
            return rows

    def _closest(self, code: NDArray[np.uint64], n: int, among: Keys | None) -> list[int]:
        ids, codes = self.ids, self.codes
        if among is not None:
            known = ids < len(among)
            chosen = np.flatnonzero(known)[among[ids[known]]]
            ids, codes = ids[chosen], codes[chosen]
        if len(ids) <= n:
            return [int(i) for i in ids]
        far = np.bitwise_count(codes ^ code).sum(axis=1, dtype=np.uint16)
        return [int(i) for i in ids[np.argpartition(far, n)[:n]]]

    def _read(self, ids: Sequence[int]) -> _Rows:
        """These phrases, the last that is kept, and all newer ones."""
        some = arms.among("id", ids)
        select = f"SELECT id, text, {_code()} FROM features_phrase WHERE"  # noqa: S608 - our own
        with connection.cursor() as cursor:
            cursor.execute(f"{select} {some.sql} UNION {select} id >= %s ORDER BY 1", [*some.params, self.last[0]])
            return [(key, text, bytes(code)) for key, text, code in cursor.fetchall()]

    def _is_of_another_database(self, rows: _Rows) -> bool:
        """Whether the last phrase that is kept is gone or another: its database was put back to an earlier state."""
        return bool(len(self.ids)) and not any((key, code) == self.last for key, _, code in rows)

    def _is_to_check(self) -> bool:
        """Now and then whether all are there: a transaction that took its keys early may have ended late."""
        if time.monotonic() - self.checked < RECHECK_SECONDS:
            return False
        self.checked = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM features_phrase")
            return bool(cursor.fetchone()[0] != len(self.ids))

    def _load(self) -> None:
        """All phrases, BATCH at a time."""
        self.ids, self.codes, self.last = np.empty(0, np.int64), np.empty((0, 4), np.uint64), (0, b"")
        self.checked = time.monotonic()
        parts: list[tuple[NDArray[np.int64], NDArray[np.uint64]]] = []
        while rows := self._next():
            parts.append(_coded(rows))
            self.last = (rows[-1][0], rows[-1][2])
        if parts:
            self.ids = np.concatenate([ids for ids, _ in parts])
            self.codes = np.concatenate([codes for _, codes in parts])

    def _next(self) -> _Rows:
        with connection.cursor() as cursor:
            select = f"SELECT id, '', {_code()} FROM features_phrase WHERE id > %s ORDER BY id LIMIT %s"  # noqa: S608
            cursor.execute(select, [self.last[0], BATCH])
            return [(key, text, bytes(code)) for key, text, code in cursor.fetchall()]

    def _add(self, rows: _Rows) -> None:
        if rows:
            ids, codes = _coded(rows)
            self.ids, self.codes = np.concatenate([self.ids, ids]), np.concatenate([self.codes, codes])
            self.last = (rows[-1][0], rows[-1][2])


def _code() -> str:
    """The signs as bytes: ``bit_send`` puts their number before them."""
    if not database.has_signs(connection.alias):
        return "code"
    return "CASE WHEN signs IS NULL THEN code ELSE substring(bit_send(signs) FROM 5) END"


def _coded(rows: Iterable[tuple[int, Any, bytes]]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """Keys and codes of phrases. One that has none gets that of zeros: its cosine is 0, and it is never shown."""
    listed = list(rows)
    codes = np.frombuffer(b"".join(code or bytes(WIDTH // 8) for _, _, code in listed), np.uint64).reshape(-1, 4)
    return np.array([key for key, _, _ in listed], np.int64), codes


_kept = Codes()
