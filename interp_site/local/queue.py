"""What a launch owes the jobs that an earlier one left behind."""

import os
import socket

from jobs.models import Job, Shard
from jobs.services import dispatch


def resend() -> None:
    """Tell the workers of every job that has work for them: a Redis that has just started knows of none.

    What a process of this machine held that is gone is free at once; the leases of others run out by themselves.
    """
    for job in Job.objects.filter(state=Job.State.RUNNING).exclude(worker=""):
        if _is_dead(job.worker):
            Job.objects.release(job.pk, job.worker)
    for shard in Shard.objects.filter(state=Shard.State.RUNNING):
        if _is_dead(shard.worker):
            Shard.objects.release(shard.pk, shard.worker)
    for job in Job.objects.claimable():
        dispatch(job)


def _is_dead(worker: str) -> bool:
    """``worker`` is ``host:process:chance``: only of this host's processes is it known that they are gone."""
    host, _, rest = worker.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
