"""A scratch file of an import: what was read so far, packed, with the place at which reading goes on.

One SQLite file, committed together with the place, so that a worker that was killed leaves a state to go on from.
Tokens get numbers as they come (or have those of their own file), contexts as well; a text that comes again is stored
once. ``write`` gives both their numbers in the database.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.transfer.faults import Refused
from jobs.transfer.records import MAX_INDEX

VERSION = 1
MAX_VOCABULARY = 2_000_000
MAX_EXAMPLES = 250  # of a feature
MAX_FAULTS = 1000
FEATURE = (
    "idx", "exact", "density", "n_firing", "n_contexts", "maximum", "mean", "norm", "cosine", "histogram", "logits",
    "neighbours", "partners", "experts", "examples",
)  # fmt: skip
_TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE tokens (id INTEGER PRIMARY KEY, raw BLOB NOT NULL);
CREATE TABLE contexts (number INTEGER PRIMARY KEY, digest BLOB UNIQUE, document_id TEXT, document_source TEXT,
    offset INTEGER, ids BLOB NOT NULL, final INTEGER);
CREATE TABLE features (idx INTEGER PRIMARY KEY, {", ".join(FEATURE[1:])});
CREATE TABLE examples (idx INTEGER, context INTEGER, low REAL, peak REAL, positions BLOB, strengths BLOB);
CREATE TABLE labels (number INTEGER PRIMARY KEY, idx INTEGER, key TEXT, body TEXT NOT NULL, UNIQUE (idx, key));
CREATE TABLE faults (id INTEGER PRIMARY KEY, file TEXT, line INTEGER, why TEXT);
"""

_CONTEXT = "INSERT OR IGNORE INTO contexts VALUES (?, ?, ?, ?, ?, ?, ?)"
_FEATURE = f"INSERT OR IGNORE INTO features VALUES ({', '.join('?' * len(FEATURE))})"  # noqa: S608


class Spool:
    """Opened by one worker at a time. ``identity`` says what is read: a file of something else is begun anew."""

    def __init__(self, path: Path, identity: str) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.db = _opened(path)
        if self._meta("identity") != f"{VERSION}:{identity}":
            self.close()
            path.unlink(missing_ok=True)
            self.db = _opened(path)
            self.db.executescript(_TABLES)
            self._set("identity", f"{VERSION}:{identity}")
            self.db.commit()
        self.place: dict[str, Any] = json.loads(self._meta("place") or "{}")
        self.facts: dict[str, Any] = json.loads(self._meta("facts") or "{}")
        self.n_read, self.n_refused = self.place.get("n_read", 0), self.place.get("n_refused", 0)
        self._ids: dict[bytes, int] = {
            bytes(raw): i for i, raw in self.db.execute("SELECT id, raw FROM tokens ORDER BY id DESC")
        }
        self._by_text: dict[str, int] = {}
        self._n_tokens: int = self._next("tokens", "id")
        self._n_contexts: int = self._next("contexts", "number")
        self._known = self._flags()
        self._named = bytearray(MAX_INDEX + 1)

    def close(self) -> None:
        """Leave it for the next one: what was not committed is gone."""
        self.db.close()

    def index(self) -> None:
        """Once all is read: examples are wanted by feature."""
        self.db.execute("CREATE INDEX IF NOT EXISTS examples_by_feature ON examples (idx)")

    def has_activity(self) -> bool:
        """Whether anything but labels was read."""
        return any(
            self.db.execute(f"SELECT 1 FROM {table} LIMIT 1").fetchone()  # noqa: S608
            for table in ("features", "examples")
        )

    def highest(self) -> int:
        """The highest number of a feature that came, -1 for none."""
        tables = ("features", "examples", "labels")
        return max(self._next(table, "idx") for table in tables) - 1

    def commit(self, **place: Any) -> None:
        """Keep all that came, and that reading goes on at ``place``."""
        self.place = place | {"n_read": self.n_read, "n_refused": self.n_refused}
        self._set("place", json.dumps(self.place))
        self._set("facts", json.dumps(self.facts))
        self.db.commit()

    def fault(self, file: str, line: int | None, why: str) -> None:
        self.n_refused += 1
        if self.n_refused <= MAX_FAULTS:
            self.db.execute("INSERT INTO faults (file, line, why) VALUES (?, ?, ?)", (file, line, why))

    def faults(self) -> list[dict[str, Any]]:
        rows = self.db.execute("SELECT file, line, why FROM faults ORDER BY id")
        return [{"file": file, "line": line, "why": why} for file, line, why in rows]

    def know(self, named: Iterable[int], active: Iterable[int]) -> None:
        """Features that are in the database already: ``named`` may be labelled, ``active`` be given examples."""
        for index in named:
            self._named[index] = 1
        for index in active:
            self._known[index] = self._known[index] or 1

    def token_ids(self, tokens: Sequence[str]) -> list[int]:
        """Numbers of tokens that a file gives as text."""
        known = self._by_text
        try:
            return [known[token] for token in tokens]
        except KeyError:
            for token in tokens:
                if token not in known:
                    known[token] = self._token(_bytes_of(token))
            return [known[token] for token in tokens]

    def _token(self, raw: bytes) -> int:
        if raw not in self._ids:
            if self._n_tokens >= MAX_VOCABULARY:
                raise Refused(f"it has new tokens, and {MAX_VOCABULARY:,} different ones were read already")
            self.put_token(self._n_tokens, raw)
        return self._ids[raw]

    def put_token(self, number: int, raw: bytes) -> None:
        """A token with the number that its file gives it, which is the next one."""
        if number != self._n_tokens or number >= MAX_VOCABULARY:
            raise Refused(f"token {number} does not follow token {self._n_tokens - 1}")
        self.db.execute("INSERT INTO tokens VALUES (?, ?)", (number, raw))
        self._ids.setdefault(raw, number)
        self._n_tokens += 1

    def context(self, ids: Sequence[int], document_id: str, document_source: str) -> int:
        """The number of a text; the document is that of its first mention."""
        raw = np.array(ids, "<u4").tobytes()
        digest = digest_of(raw)
        found = self.db.execute("SELECT number FROM contexts WHERE digest = ?", (digest,)).fetchone()
        if found:
            return int(found[0])
        row = (self._n_contexts, digest, document_id, document_source, 0, raw, None)
        self.db.execute(_CONTEXT, row)
        self._n_contexts += 1
        return int(row[0])

    def put_context(self, number: int, ids: NDArray[np.int64], document: tuple[str, str], offset: int) -> None:
        """A text with the number that its file gives it."""
        row = (number, None, *document, offset, ids.astype("<u4").tobytes(), number)
        if not self.db.execute(_CONTEXT, row).rowcount:
            raise Refused(f"context {number} is there twice")

    def length_of(self, number: int) -> int:
        """How many tokens a context has; 0 if there is none of this number."""
        found = self.db.execute("SELECT length(ids) / 4 FROM contexts WHERE number = ?", (number,)).fetchone()
        return int(found[0]) if found else 0

    def feature(self, row: Sequence[Any]) -> None:
        """The values of FEATURE. Raises Refused for one that is there."""
        if not self.db.execute(_FEATURE, row).rowcount:
            raise Refused(f"feature {row[0]} is there twice")
        self._known[row[0]] = self._known[row[0]] or 1

    def require(self, index: int, *, named: bool = False) -> None:
        """Raise Refused where no record of the feature came before, and none is in the database.

        ``named``: it is enough that the SAE has the feature, whatever was counted of it.
        """
        if not self._known[index] and not (named and self._named[index]):
            raise Refused(f"it is of feature {index}, of which there is no record")

    def example(
        self, index: int, context: int, low: float | None, positions: bytes, values: bytes, peak: float
    ) -> None:
        if self._known[index] > MAX_EXAMPLES:
            raise Refused(f"feature {index} has {MAX_EXAMPLES} examples already")
        self._known[index] += 1
        row = (index, context, low, peak, positions, values)
        self.db.execute("INSERT INTO examples VALUES (?, ?, ?, ?, ?, ?)", row)

    def label(self, index: int, key: str, body: dict[str, Any]) -> None:
        row = (index, key, json.dumps(body))
        if not self.db.execute("INSERT OR IGNORE INTO labels (idx, key, body) VALUES (?, ?, ?)", row).rowcount:
            raise Refused("it is there twice")

    def _flags(self) -> bytearray:
        """Of each feature 0 if it is not known, else 1 and one for each of its examples."""
        known = bytearray(MAX_INDEX + 1)
        for (index,) in self.db.execute("SELECT idx FROM features"):
            known[index] = 1
        for index, n in self.db.execute("SELECT idx, count(*) FROM examples GROUP BY idx"):
            known[index] = 1 + n
        return known

    def _next(self, table: str, key: str) -> int:
        return int(self.db.execute(f"SELECT coalesce(max({key}), -1) + 1 FROM {table}").fetchone()[0])  # noqa: S608

    def _meta(self, key: str) -> str | None:
        try:
            found = self.db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        except sqlite3.DatabaseError:  # a new file, or one that was damaged
            return None
        return str(found[0]) if found else None

    def _set(self, key: str, value: str) -> None:
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))


def digest_of(ids: bytes) -> bytes:
    """``ids``: uint32, little-endian, end to end."""
    return blake2b(ids, digest_size=16).digest()


def _bytes_of(token: str) -> bytes:
    return token.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def _opened(path: Path) -> sqlite3.Connection:
    """A crash of the machine may cost the file, a crash of the process nothing."""
    db = sqlite3.connect(path)
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-32768", "temp_store=FILE"):
        db.execute(f"PRAGMA {pragma}").fetchall()
    return db
