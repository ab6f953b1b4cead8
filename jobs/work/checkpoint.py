"""Reading an SAE that somebody added: its files come here, it is loaded, and its row says what it is or why not."""

import logging
from typing import Any

from jobs import checkpoints
from jobs.bulk import storable
from jobs.engine import heap
from jobs.engine.errors import EngineError
from jobs.engine.saes import load_sae
from jobs.models import Checkpoint
from jobs.presence import own_name
from jobs.progress import Lease, Leaving, Stopped, persist
from jobs.uploads import fetched

logger = logging.getLogger(__name__)


class Reading(Lease):
    """Keeps the row while it is read, and tells how much of it has been fetched."""

    def __init__(self, pk: int, worker: str) -> None:
        super().__init__(worker, None)
        self.pk = pk

    def fetched(self, done: int, total: int) -> None:
        self.check()
        self._write(done=done, total=total)

    def _touch(self, **values: Any) -> bool:
        return Checkpoint.objects.beat(self.pk, self.worker, **values)


def read(pk: int) -> None:
    """Read the checkpoint, if it waits for that. What comes of it is on its row."""
    worker, rows = own_name(), Checkpoint.objects
    if not rows.claim(pk, worker):
        return
    progress, checkpoint = Reading(pk, worker), rows.get(pk=pk)
    try:
        with progress.beating():
            card, revision = _read(checkpoint, progress)
        persist(lambda: rows.finish(pk, worker, card, revision))
    except (Stopped, Leaving):
        rows.release(pk, worker)
    except EngineError as error:
        sentence = as_named(str(error), checkpoint)
        persist(lambda: rows.refuse(pk, worker, sentence))
    except Exception as error:
        logger.exception("checkpoint %s could not be read", pk)
        why = as_named(" ".join(f"{type(error).__name__}: {error}".split())[:500], checkpoint)
        persist(lambda: rows.refuse(pk, worker, f"The worker met an error it does not know: {why}"))
    except BaseException:
        rows.release(pk, worker)
        raise
    finally:
        heap.trim()


def _read(checkpoint: Checkpoint, progress: Reading) -> tuple[dict[str, Any], str]:
    """Its card, and the revision of the repository that it came from."""
    found = checkpoints.fetch(checkpoint, progress.fetched)
    progress.check()
    card = load_sae(found.path, **checkpoint.overrides).card()
    return storable(card), found.revision


def as_named(sentence: str, checkpoint: Checkpoint) -> str:
    """``sentence`` with the files of an upload as they were called where they came from."""
    root = str(fetched(checkpoint.place))
    return sentence.replace(f"{root}/", "").replace(root, "The upload")
