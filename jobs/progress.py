"""How a worker tells where it is, keeps its lease alive, and learns that it is to stop."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, TypeVar

from django.conf import settings
from django.db import DatabaseError, InterfaceError, OperationalError, connection

from jobs import leaving
from jobs.models import Job, Shard
from jobs.models.job import logged

logger = logging.getLogger(__name__)
T = TypeVar("T")
BEAT_SECONDS = 0.5
Watch = Callable[[str, int, int], object]  # stage, done, total: for a terminal that runs the job itself


class Stopped(Exception):
    """The work is no longer this worker's: cancelled, taken over, or ended by another."""


class Leaving(Exception):
    """This worker is to end: what it holds is for others."""


def persist(write: Callable[[], T]) -> T:
    """Make one write that matters, through an outage of the database that is shorter than a lease or two."""
    until = time.monotonic() + 2 * settings.LEASE_SECONDS
    while True:
        try:
            return write()
        except (OperationalError, InterfaceError) as error:
            if connection.in_atomic_block or time.monotonic() > until:
                raise
            logger.warning("the database does not answer: %s", error)
            connection.close()
            time.sleep(0.5)


class Lease(ABC):
    """A lease that is kept alive by a thread, and by whatever progress is written."""

    def __init__(self, worker: str, watch: Watch | None) -> None:
        self.worker, self._watch = worker, watch
        self._beat = time.monotonic()
        self._taken = Event()

    @abstractmethod
    def _touch(self, **values: Any) -> bool:
        """Write a heartbeat and ``values``. False: the lease is gone."""

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Keep the lease alive in stages that tell nothing for minutes, such as reading a large model."""
        ended = Event()

        def beat() -> None:
            while not ended.wait(settings.LEASE_SECONDS / 6):
                try:
                    if not self._touch():
                        self._taken.set()
                except (DatabaseError, InterfaceError) as error:  # the next beat may get through
                    logger.warning("no heartbeat: %s", error)
                    connection.close()
            connection.close()

        thread = Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()

    def check(self) -> None:
        """Raise Stopped or Leaving where either is known already."""
        if self._taken.is_set():
            raise Stopped
        if leaving.asked():
            raise Leaving

    def pulse(self, items: Iterable[T]) -> Iterator[T]:
        """Pass ``items`` on with a heartbeat now and then."""
        for item in items:
            yield item
            self.check()
            if time.monotonic() - self._beat >= BEAT_SECONDS:
                self._write()

    def _write(self, **values: object) -> None:
        self._beat = time.monotonic()
        try:
            mine = self._touch(**values)
        except (OperationalError, InterfaceError) as error:
            if connection.in_atomic_block:
                raise
            logger.warning("no heartbeat: %s", error)
            connection.close()  # the server went away: the next beat opens a new connection
            return
        if not mine:
            raise Stopped


class Progress(Lease):
    """Planning and finishing: writes the job's own row, and raises Stopped once the job was taken away."""

    def __init__(self, job_id: int, worker: str, watch: Watch | None = None) -> None:
        super().__init__(worker, watch)
        self.job_id = job_id

    def stage(self, text: str, part: tuple[int, int] = (0, 0), **facts: str) -> None:
        """Begin a stage that will take an unknown time. ``part``: how much of everything is done, if that is known."""
        if self._watch:
            self._watch(text, 0, 0)
        self.check()
        done, total = part
        self._write(stage=text, done=done, total=total, rate=0.0, log=logged(text, self.worker), **facts)

    def _touch(self, **values: Any) -> bool:
        return Job.objects.beat(self.job_id, self.worker, **values)


class ShardProgress(Lease):
    """Reading a shard: writes the shard's row and, by all its shards, the job's."""

    def __init__(self, shard: Shard, worker: str, watch: Watch | None = None) -> None:
        super().__init__(worker, watch)
        self.shard = shard
        self._first: tuple[float, int] | None = None  # what came before it does not count for the rate

    def tokens(self, done: int) -> None:
        """``done`` tokens of the shard are through, a batch more than last time. Raises Stopped within this batch."""
        self.check()
        now = time.monotonic()
        if self._first is None or now - self._beat >= BEAT_SECONDS or done >= self.shard.n_tokens:
            began, first = self._first = self._first or (now, done)
            self._write(done=done, rate=(done - first) / (now - began) if now > began else 0.0)
            self._add_up()
        elif not self._is_held():
            raise Stopped

    def tell(self, stage: str) -> None:
        """Show a stage that is this worker's alone."""
        if self._watch:
            self._watch(stage, 0, 0)
        self.check()
        self._write()
        line = f"shard {self.shard.number}: {stage}"
        persist(lambda: Job.objects.tell(self.shard.job_id, line, self.worker))

    def _add_up(self) -> None:
        try:
            Job.objects.add_up(self.shard.job_id)
            if self._watch:
                done, total = Job.objects.values_list("done", "total").get(pk=self.shard.job_id)
                self._watch("extracting", done, total)
        except (OperationalError, InterfaceError, Job.DoesNotExist):
            if connection.in_atomic_block:
                raise
            connection.close()

    def _is_held(self) -> bool:
        try:
            return Shard.objects.held(self.shard.pk, self.worker).exists()
        except (OperationalError, InterfaceError):
            if connection.in_atomic_block:
                raise
            connection.close()
            return True

    def _touch(self, **values: Any) -> bool:
        return Shard.objects.beat(self.shard.pk, self.worker, **values)
