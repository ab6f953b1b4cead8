"""Reading an import: its files into a scratch file, then all of that into the database, or a sentence that says why
not. A worker that takes over from one that was lost goes on where that one stopped, if it is on the same machine.
"""

import logging
import shutil
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from features.models import Run
from jobs import imports
from jobs.models import Import
from jobs.models.transfer import MAX_FAULTS
from jobs.presence import own_name
from jobs.progress import Lease, Leaving, Stopped, persist
from jobs.transfer.counts import Counts
from jobs.transfer.faults import NotAnExport
from jobs.transfer.layouts import Plan, plan
from jobs.transfer.reading import open_spool, read_all
from jobs.transfer.spool import Spool
from jobs.transfer.tree import Tree
from jobs.transfer.write import know, write

logger = logging.getLogger(__name__)
T = TypeVar("T")
Watch = Callable[[dict[str, Any]], object]
NOTHING = "None of its records can be used: what is wrong with each stands below."


class Reading(Lease):
    """Keeps the row while it is read, and tells how far."""

    def __init__(self, pk: int, worker: str, watch: Watch | None) -> None:
        super().__init__(worker, None)
        self.pk, self.tell_also = pk, watch

    def tell(self, where: dict[str, Any], spool: Spool | None = None) -> None:
        self.check()
        if self.tell_also:
            self.tell_also(where)
        read = {"n_read": spool.n_read, "n_refused": spool.n_refused} if spool else {}
        self._write(progress=where, **read)

    def watched(self, items: Iterator[T]) -> Iterator[T]:
        """Pass ``items`` on, inside a transaction: nothing is written there, so that nobody waits for the row."""
        for item in items:
            self.check()
            yield item

    def _touch(self, **values: Any) -> bool:
        return Import.objects.beat(self.pk, self.worker, **values)


def read(pk: int, watch: Watch | None = None) -> None:
    """Read the import, if it waits for that. What comes of it is on its row. ``watch`` hears where it is."""
    worker, rows = own_name(), Import.objects
    if not rows.claim(pk, worker):
        return
    progress = Reading(pk, worker, watch)
    try:
        with progress.beating():
            _read(rows.get(pk=pk), progress)
    except (Stopped, Leaving):
        rows.release(pk, worker)
        return
    except NotAnExport as error:
        sentence = str(error)
        persist(lambda: rows.refuse(pk, worker, sentence))
    except OSError as error:
        why = f"Its files cannot be read: {error.strerror or error}."
        persist(lambda: rows.refuse(pk, worker, why))
    except Exception as error:
        logger.exception("import %s could not be read", pk)
        why = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        persist(lambda: rows.refuse(pk, worker, f"The worker met an error it does not know: {why}"))
    except BaseException:
        rows.release(pk, worker)
        raise
    shutil.rmtree(imports.scratch(pk), ignore_errors=True)


def _read(row: Import, progress: Reading) -> None:
    with imports.opened(row) as tree:
        progress.tell({"stage": "looking at the files"})
        planned = plan(tree)
        spool = open_spool(imports.scratch(row.pk), tree, planned)
        try:
            _spooled(row, tree, planned, spool, progress)
        finally:
            spool.close()


def _spooled(row: Import, tree: Tree, planned: Plan, spool: Spool, progress: Reading) -> None:
    know(spool, planned)
    read_all(tree, planned, spool, lambda where: progress.tell(where, spool))
    counted: dict[str, Any] = {"n_read": spool.n_read, "n_refused": spool.n_refused}
    counted |= {"faults": spool.faults()[:MAX_FAULTS], "layout": planned.layout}
    if spool.highest() < 0:
        persist(lambda: Import.objects.refuse(row.pk, progress.worker, NOTHING, **counted))
        return
    progress.tell({"stage": "writing to the database"}, spool)
    spool.index()

    def end(run: Run | None, counts: Counts) -> None:
        # The import ends with what it wrote: one that was deleted or taken over meanwhile leaves nothing behind.
        if not Import.objects.finish(row.pk, progress.worker, run=run, **counts.columns(), **counted):
            raise Stopped

    write(spool, planned, row.owner, _given(row, planned), progress.watched, end)


def _given(row: Import, planned: Plan) -> str:
    """The name that a person gave the import is its SAE's; a file's or a folder's name is none."""
    named = {row.source.rstrip("/").rsplit("/", 1)[-1], *(file["name"] for file in row.files[:1])}
    return "" if row.name in named else row.name
