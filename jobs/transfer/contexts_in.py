"""Contexts of an import: their numbers in the run, their rows, and the features that cite them."""

from collections.abc import Iterable, Iterator
from itertools import groupby, islice
from typing import Any

import numpy as np
from django.db.models import Max
from numpy.typing import NDArray

from features.models import Context, Run
from features.store.contexts import pack_features, pack_tokens, unpack_features, unpack_tokens
from jobs import bulk
from jobs.transfer.packing_in import renumbered
from jobs.transfer.spool import Spool, digest_of
from jobs.transfer.tables import CONTEXT

CHUNK = 500


def settle_contexts(spool: Spool, run: Run, numbers: NDArray[np.int64] | None, *, new: bool) -> None:
    """Give every context of the spool its number in the run: that of the same tokens, if it has them, else a new one.

    ``numbers``: of the files' tokens here. Contexts of our own export have their numbers already.
    """
    db = spool.db
    db.execute("UPDATE contexts SET final = NULL WHERE digest IS NOT NULL")
    last = -1
    if not new:
        rows = Context.objects.filter(run=run).order_by("number").values_list("number", "token_ids")
        local = None if numbers is None else _inverse(numbers)
        for number, packed in rows.iterator(chunk_size=CHUNK):
            ids = unpack_tokens(bytes(packed))
            known = ids if local is None else _back(ids, local)
            if known is not None:
                db.execute(
                    "UPDATE contexts SET final = ? WHERE digest = ?", (number, digest_of(known.astype("<u4").tobytes()))
                )
        last = Context.objects.filter(run=run).aggregate(last=Max("number"))["last"]
        last = -1 if last is None else last
    first = last + 1
    db.execute(
        "UPDATE contexts SET final = numbered.place FROM (SELECT number, ? - 1 + row_number() OVER (ORDER BY number) "
        "AS place FROM contexts WHERE final IS NULL) AS numbered WHERE contexts.number = numbered.number",
        (first,),
    )
    db.execute("CREATE INDEX IF NOT EXISTS contexts_by_final ON contexts (final)")


def _inverse(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first of the files' numbers for each number here, -1 for none."""
    local = np.full(int(numbers.max(initial=-1)) + 1, -1, np.int64)
    local[numbers[::-1]] = np.arange(len(numbers))[::-1]
    return local


def _back(ids: NDArray[np.uint32], local: NDArray[np.int64]) -> NDArray[np.uint32] | None:
    if len(ids) and int(ids.max()) >= len(local):
        return None
    found = local[ids]
    return None if np.any(found < 0) else found.astype(np.uint32)


class Citations:
    """Which features cite a context now, and which did and do so no more."""

    def __init__(self, spool: Spool) -> None:
        self.db = spool.db
        self.db.execute("DROP TABLE IF EXISTS citations")
        self.db.execute("CREATE TABLE citations (number INTEGER, idx INTEGER, now INTEGER)")

    def add(self, index: int, contexts: Iterable[int], *, now: bool) -> None:
        rows = ((int(number), index, int(now)) for number in contexts)
        self.db.executemany("INSERT INTO citations VALUES (?, ?, ?)", rows)

    def by_context(self) -> Iterator[tuple[int, set[int], set[int]]]:
        """Each context's number, with who cites it now and who did, ascending."""
        self.db.execute("CREATE INDEX citations_by_number ON citations (number)")
        rows = self.db.execute("SELECT number, idx, now FROM citations ORDER BY number")
        for number, group in groupby(rows, lambda row: row[0]):
            now: set[int] = set()
            before: set[int] = set()
            for _, index, is_now in group:
                (now if is_now else before).add(index)
            yield number, now, before


def write_contexts(
    spool: Spool, run: Run, citations: Citations, numbers: NDArray[np.int64] | None, *, new: bool
) -> bool:
    """The rows of the contexts that are new or changed, and of those whose citations changed. Whether any is."""
    wrote = False
    for rows in _chunks(_wanted(spool, citations)):
        old = {} if new else {c.number: c for c in Context.objects.filter(run=run, number__in=[row[0] for row in rows])}
        fresh = [_row(run, row, old.get(row[0]), numbers) for row in rows]
        changed = [row for row in fresh if row is not None and not _is_same(row, old.get(row[1]))]
        replaced = [row[1] for row in changed if row[1] in old]
        if replaced:
            Context.objects.filter(run=run, number__in=replaced).delete()
        bulk.insert(Context, CONTEXT, changed)
        wrote = wrote or bool(changed)
    return wrote


def _wanted(spool: Spool, citations: Citations) -> Iterator[tuple[int, tuple[Any, ...] | None, set[int], set[int]]]:
    """Contexts of the spool and contexts that are cited, together by number: (number, the spool's row, now, before)."""
    columns = "final, document_id, document_source, offset, ids, digest IS NULL"
    cited = citations.by_context()
    cite = next(cited, None)
    rows = spool.db.execute(f"SELECT {columns} FROM contexts ORDER BY final")  # noqa: S608
    row = next(rows, None)
    while row is not None or cite is not None:
        number = min(place[0] for place in (row, cite) if place is not None)
        here, now, before = None, set[int](), set[int]()
        if cite is not None and cite[0] == number:
            _, now, before = cite
            cite = next(cited, None)
        if row is not None and row[0] == number:
            here, row = row, next(rows, None)
        yield number, here, now, before


def _row(
    run: Run,
    wanted: tuple[int, tuple[Any, ...] | None, set[int], set[int]],
    old: Context | None,
    numbers: NDArray[np.int64] | None,
) -> tuple[Any, ...] | None:
    """The values of CONTEXT. What our own export says of a document replaces what is there."""
    number, here, now, before = wanted
    cited = now
    if old is not None:
        cited = (set(unpack_features(bytes(old.features)).tolist()) - before) | now
    if old is not None and (here is None or not here[5]):
        said = (old.document_id, old.document_source, old.offset, bytes(old.token_ids))
        return run.pk, number, *said, pack_features(sorted(cited))
    if here is None:
        return None  # a feature cites what this run does not hold
    _, document_id, document_source, offset, raw, _ = here
    ids = np.frombuffer(raw, "<u4")
    ids = ids if numbers is None else renumbered(ids, numbers).astype(np.uint32)
    return run.pk, number, document_id, document_source, offset, pack_tokens(ids), pack_features(sorted(cited))


def _is_same(row: tuple[Any, ...], old: Context | None) -> bool:
    if old is None:
        return False
    there = (old.document_id, old.document_source, old.offset, bytes(old.token_ids), bytes(old.features))
    return row[2:] == there


def _chunks(rows: Iterator[Any]) -> Iterator[list[Any]]:
    while chunk := list(islice(rows, CHUNK)):
        yield chunk
