"""How a worker says that it is there: its parent process beats, and the child that works says what it is at.

The rows are for people to look at. No work depends on them: that is claimed by leases.
"""

import logging
import os
import platform
import secrets
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from threading import Event, Lock, Thread
from typing import Any

from django.conf import settings
from django.db import DatabaseError, InterfaceError, connection
from django.db.models import Q
from django.db.models.functions import Now

from jobs import machine
from jobs.engine.code import code_version
from jobs.models import Worker

logger = logging.getLogger(__name__)
IDLE: dict[str, Any] = {"doing": "", "job": None, "child": None}
_beating = Lock()


@cache
def _name(pid: int) -> str:
    return f"{socket.gethostname()}:{pid}:{secrets.token_hex(3)}"


def own_name() -> str:
    """``host:process:chance``, for two containers may share a host's name and each have a process 8."""
    return _name(os.getpid())


def start(node: str, queues: Sequence[str], ended: Event | None = None) -> Thread:
    """Keep the row of this worker alive in a thread, until ``ended`` or for as long as this process lives.

    It may fork children meanwhile: a fork waits for the end of a beat, so that no child inherits a lock in use.
    """
    os.register_at_fork(before=_beating.acquire, after_in_parent=_beating.release, after_in_child=_beating.release)
    thread = Thread(target=_forever, args=[node, list(queues), ended or Event()], name="presence", daemon=True)
    thread.start()
    return thread


def register(node: str, queues: Sequence[str]) -> Worker:
    """A row for this process, in place of the last one of the same node unless that is alive.

    Rows of this host's processes that are gone go, too: nobody needs to be told that an earlier launch was killed.
    """
    pid, name = os.getpid(), node[:180]
    here = Worker.objects.filter(host=socket.gethostname()[:200]).exclude(pid=pid)
    Worker.objects.filter(pk__in=[row.pk for row in here if not machine.runs(row.pid)]).delete()
    if Worker.objects.alive().filter(name=name).exclude(pid=pid).exists():
        name = f"{name} #{pid}"  # two workers were started under one name: Celery warns of it, and both run
    facts = {"host": socket.gethostname()[:200], "pid": pid, "queues": sorted(queues), "warm": []}
    facts |= {"version": code_version()["commit"], "device": machine.likely_device()}
    facts |= IDLE | {"memory": machine.memory_of(pid), "memory_total": machine.memory_total()}
    facts |= {"gpu_memory": None, "gpu_memory_total": None, "started_at": Now(), "heartbeat_at": Now()}
    return Worker.objects.update_or_create(name=name, defaults=facts)[0]


def beat(name: str) -> bool:
    """This worker is alive. False: its row is gone. A child that died meanwhile is at nothing any more."""
    pid, me = os.getpid(), Worker.objects.filter(name=name, pid=os.getpid())
    alive = me.update(heartbeat_at=Now(), memory=machine.memory_of(pid), memory_total=machine.memory_total())
    me.exclude(child=None).exclude(child__in=[pid, *machine.children_of(pid)]).update(**IDLE | {"warm": []})
    return bool(alive)


def leave() -> None:
    """This worker ends as it should: nobody is to look for it."""
    try:
        Worker.objects.filter(host=socket.gethostname()[:200], pid=os.getpid()).delete()
    except (DatabaseError, InterfaceError) as error:
        logger.warning("the row of this worker stays: %s", error)


def forget() -> None:
    """Delete the rows of workers that were lost a while ago."""
    Worker.objects.forgotten().delete()


@contextmanager
def doing(what: str, job_id: int | None = None) -> Iterator[None]:
    """In a worker's child: show what it is at."""
    tell(doing=what[:200], job=job_id, child=os.getpid())
    try:
        yield
    finally:
        tell(**IDLE)


def tell(**values: Any) -> None:
    """In a worker's child: write ``values`` to the worker's row, and what torch knows of the device."""
    near = Q(pid=os.getppid()) | Q(pid=os.getpid())
    try:
        Worker.objects.filter(near, host=socket.gethostname()[:200]).update(**values | _accelerator())
    except (DatabaseError, InterfaceError) as error:
        if connection.in_atomic_block:
            raise
        logger.warning("nobody was told what this worker does: %s", error)
        connection.close()


def has_torch() -> bool:
    """Whether this process has loaded it, which takes a while."""
    return "torch" in sys.modules


def _accelerator() -> dict[str, Any]:
    """Nothing before torch is loaded: asking it would load it."""
    torch: Any = sys.modules.get("torch")
    if torch is None or not hasattr(torch, "cuda"):
        return {}
    if not torch.cuda.is_available():
        return {"device": f"cpu ({platform.machine()})"}
    name = {"device": f"cuda ({torch.cuda.get_device_name()})"[:100]}
    if not torch.cuda.is_initialized():
        return name
    free, total = torch.cuda.mem_get_info()
    return name | {"gpu_memory": total - free, "gpu_memory_total": total}


def _forever(node: str, queues: list[str], ended: Event) -> None:
    name = ""
    while True:
        with _beating:
            try:
                if not name or not beat(name):
                    name = register(node, queues).name
            except Exception:  # the database is away: the next beat may find it
                logger.warning("this worker could not say that it is there", exc_info=True)
            finally:
                connection.close()
        if ended.wait(settings.LEASE_SECONDS / 6):
            return
