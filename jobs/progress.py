"""How a running job tells where it is, and learns that it is to stop."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connection

from jobs.models import Job

T = TypeVar("T")
BEAT_SECONDS = 0.5
QUIET_SECONDS = 30.0
Watch = Callable[[str, int, int], object]  # stage, done, total: for a terminal that runs the job itself


class Stopped(Exception):
    """The job is no longer this worker's to run."""


class Progress:
    """Writes the job's heartbeat at most twice a second, and raises Stopped once the job was taken away."""

    def __init__(self, job_id: int, worker: str, watch: Watch | None = None) -> None:
        self.job_id, self.worker, self._watch = job_id, worker, watch
        self._began = self._beat = time.monotonic()
        self._first: int | None = None
        self._stage, self._total = "", 0

    def stage(self, text: str, total: int = 0, **facts: str) -> None:
        """Begin a stage that will go through ``total`` tokens, or take an unknown time."""
        self._began, self._first = time.monotonic(), None
        self._stage, self._total = text, total
        if self._watch:
            self._watch(text, 0, total)
        self._write(stage=text, done=0, total=total, rate=0.0, **facts)

    def tokens(self, done: int) -> None:
        """``done`` of the stage's tokens are through; what was there at the first call does not count for the rate."""
        now = time.monotonic()
        if self._watch:
            self._watch(self._stage, done, self._total)
        if self._first is None:
            self._first, self._began = done, now
        if now - self._beat >= BEAT_SECONDS or done >= self._total:
            rate = (done - self._first) / (now - self._began) if now > self._began else 0.0
            self._write(done=done, rate=rate)

    def pulse(self, items: Iterable[T]) -> Iterator[T]:
        """Pass ``items`` on with a heartbeat now and then."""
        for item in items:
            yield item
            if time.monotonic() - self._beat >= BEAT_SECONDS:
                self._write()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Keep the heartbeat alive in stages that tell nothing for minutes, such as reading a large model."""
        ended = Event()

        def beat() -> None:
            while not ended.wait(QUIET_SECONDS):
                with suppress(DatabaseError):  # busy with this job's own writes: the next beat will do
                    Job.objects.beat(self.job_id, self.worker)
            connection.close()

        thread = Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()

    def _write(self, **values: object) -> None:
        self._beat = time.monotonic()
        try:
            mine = Job.objects.beat(self.job_id, self.worker, **values)
        except (OperationalError, InterfaceError):
            if connection.in_atomic_block:
                raise
            connection.close()  # the server went away: the next beat opens a new connection
            return
        if not mine:
            raise Stopped
