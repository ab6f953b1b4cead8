"""Answering a trial. Torch is loaded here only once the trial is claimed, so that a page sees who is at it."""

import logging
import time
from typing import Any

from jobs import presence
from jobs.engine.errors import EngineError
from jobs.models import Trial
from jobs.progress import Lease, Leaving, Stopped, persist

logger = logging.getLogger(__name__)


class Trying(Lease):
    """Keeps the row while its text is run, and tells what takes long."""

    def __init__(self, pk: int, worker: str) -> None:
        super().__init__(worker, None)
        self.pk = pk

    def stage(self, text: str) -> None:
        self.check()
        self._write(stage=text[:100])
        presence.tell(doing=f"{text}, to try a text"[:200])

    def _touch(self, **values: Any) -> bool:
        return Trial.objects.beat(self.pk, self.worker, **values)


def answer(pk: int) -> None:
    """Run the trial's text, if it waits for that. What comes of it is on its row."""
    worker, rows, began = presence.own_name(), Trial.objects, time.monotonic()
    if not rows.claim(pk, worker):
        return
    progress = Trying(pk, worker)
    try:
        with progress.beating():
            found = _run(pk, progress)
        seconds = time.monotonic() - began
        persist(lambda: rows.finish(pk, worker, seconds=seconds, **found))
    except (Stopped, Leaving, Trial.DoesNotExist):
        rows.release(pk, worker)
    except EngineError as error:
        sentence = str(error)
        persist(lambda: rows.fail(pk, worker, sentence))
    except Exception as error:
        logger.exception("trial %s failed", pk)
        why = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        persist(lambda: rows.fail(pk, worker, f"The worker met an error it does not know: {why}"))
    except BaseException:
        rows.release(pk, worker)
        raise


def _run(pk: int, progress: Trying) -> dict[str, Any]:
    trial = Trial.objects.select_related("sae__model").get(pk=pk)
    if not presence.has_torch():
        progress.stage("starting the worker")
    from jobs.work.reading import read_trial

    return read_trial(trial, progress)
