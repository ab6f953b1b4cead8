"""Now and then: tell workers of work that nobody knows of, end jobs that were tried for too long, delete what is left.

A worker that is killed tells nobody, and a Redis that restarts has forgotten what was sent. So the parent process of
every worker looks by itself. Any number of them may do so at a time, and none of them matters.
"""

import logging
import os
from datetime import timedelta
from threading import Event, Lock, Thread
from typing import Any

from django.conf import settings
from django.db import connection
from django.utils import timezone

from jobs import checkpoints, files, imports, presence, trials
from jobs.models import Job
from jobs.tasks import TASKS, ask_to_import, ask_to_read, ask_to_try, invite, read_checkpoint, read_import, try_text

logger = logging.getLogger(__name__)
KEPT = timedelta(days=7)  # files of jobs that failed or were cancelled, for another try
CLEAN_EVERY = 10  # sweeps
_sweeping = Lock()


def start(ended: Event | None = None) -> Thread:
    """Sweep in a thread until ``ended``, or for as long as this process lives.

    It may fork children meanwhile: a fork waits for the end of a sweep, so that no child inherits a lock in use.
    """
    os.register_at_fork(before=_sweeping.acquire, after_in_parent=_sweeping.release, after_in_child=_sweeping.release)
    thread = Thread(target=_forever, args=[ended or Event()], name="sweeper", daemon=True)
    thread.start()
    return thread


def sweep(clean: bool = True) -> None:
    """One look at everything."""
    for pk in Job.objects.live().values_list("pk", flat=True):
        if Job.objects.give_up(pk):
            logger.warning("job %s was given up", pk)
    send()
    if clean:
        clear()
        checkpoints.clear()
        imports.clear()
        trials.clear()
        presence.forget()


def send() -> None:
    """Tell the workers of jobs and texts that wait for them, and of SAEs to be read, unless messages still wait."""
    for kind, task in TASKS.items():
        jobs = list(Job.objects.live().claimable().filter(kind=kind).values_list("pk", flat=True))
        if jobs and not waiting_messages(task):
            for pk in jobs:
                invite(pk, 1, kind)
    unread = checkpoints.unread()
    if unread and not waiting_messages(read_checkpoint):
        for pk in unread:
            ask_to_read(pk)
    unimported = imports.unread()
    if unimported and not waiting_messages(read_import):
        for pk in unimported:
            ask_to_import(pk)
    unanswered = trials.unanswered()
    if unanswered and not waiting_messages(try_text):
        for pk in unanswered:
            ask_to_try(pk)


def waiting_messages(task: Any) -> int:
    """In the queue that the workers of this task read."""
    queue = settings.CELERY_TASK_ROUTES[task.name]["queue"]
    with task.app.connection_for_write(connect_timeout=5) as link:
        channel: Any = link.default_channel  # Redis's own
        return int(channel.client.llen(queue))


def clear() -> None:
    """Delete the files of jobs that need none any more, in the storage and on this machine."""
    for pk in sorted({*files.stored_jobs(), *files.scratch_jobs()}):
        job = Job.objects.filter(pk=pk).first()
        if job is None or job.state == Job.State.DONE or _is_old(job):
            files.delete_job(pk)


def _is_old(job: Job) -> bool:
    return job.can_retry and job.finished_at is not None and timezone.now() - job.finished_at > KEPT


def _forever(ended: Event) -> None:
    rounds = 0
    while True:
        with _sweeping:
            try:
                sweep(clean=rounds % CLEAN_EVERY == 0)
            except Exception:  # Redis, the database or the storage is away: the next sweep may find it
                logger.warning("a sweep failed", exc_info=True)
            finally:
                connection.close()
        rounds += 1
        if ended.wait(settings.SWEEP_SECONDS):
            return
