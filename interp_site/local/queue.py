"""What a launch owes the jobs that an earlier one left behind."""

import os
import socket

from django.utils import timezone

from jobs.models import SILENT_AFTER, Job
from jobs.services import dispatch
from jobs.tasks import run_extraction


def resend() -> None:
    """Tell the workers of every job that is not ended: a Redis that has just started knows of none.

    However often a job is sent, one worker claims it. One whose worker still lives somewhere is sent for later, when
    its silence would show.
    """
    for job in Job.objects.filter(state=Job.State.RUNNING):
        if _is_dead(job.worker):
            silent = timezone.now() - SILENT_AFTER
            Job.objects.filter(pk=job.pk, state=Job.State.RUNNING, worker=job.worker).update(heartbeat_at=silent)
        else:
            run_extraction.apply_async((job.pk,), countdown=SILENT_AFTER.total_seconds())
    for job in Job.objects.claimable():
        dispatch(job)


def _is_dead(worker: str) -> bool:
    """``worker`` is ``host:process id``: only of this host's processes is it known that they are gone."""
    host, _, pid = worker.rpartition(":")
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
