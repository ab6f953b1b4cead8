"""Job: a piece of work, and the states it goes through."""

from datetime import datetime, timedelta
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import F, Q
from django.urls import reverse
from django.utils import timezone

from features.models import Run

SILENT_AFTER = timedelta(minutes=10)
LONG_WAIT = timedelta(seconds=10)


class JobQuerySet(models.QuerySet["Job"]):
    """Every change of state is one conditional UPDATE: of two who try, one sees that it changed nothing."""

    def for_listing(self) -> Self:
        return self.select_related("owner", "run__sae")

    def live(self) -> Self:
        """Queued or running, the oldest first."""
        return self.filter(state__in=Job.LIVE).order_by("pk")

    def ended_before(self, pk: int | None) -> Self:
        """Ended, the newest first; with a key, only those older than that job."""
        ended = self.exclude(state__in=Job.LIVE).order_by("-pk")
        return ended if pk is None else ended.filter(pk__lt=pk)

    def claimable(self) -> Self:
        """Jobs that no worker is at: sending one of them to the workers again does no harm."""
        abandoned = Q(state=Job.State.RUNNING, heartbeat_at__lt=timezone.now() - SILENT_AFTER)
        return self.filter(Q(state=Job.State.QUEUED) | abandoned)

    def claim(self, pk: int, worker: str) -> bool:
        """Take a queued job, or one whose worker has gone silent, for ``worker``."""
        now = timezone.now()
        taken = (
            self.claimable()
            .filter(pk=pk)
            .update(
                state=Job.State.RUNNING,
                worker=worker[:200],
                attempts=F("attempts") + 1,
                started_at=now,
                heartbeat_at=now,
                finished_at=None,
                error="",
                stage="",
                done=0,
                total=0,
                rate=0.0,
            )
        )
        return bool(taken)

    def beat(self, pk: int, worker: str, **progress: Any) -> bool:
        """Write progress. False: the job is no longer this worker's to run; it was cancelled or taken over."""
        mine = self.filter(pk=pk, state=Job.State.RUNNING, worker=worker[:200])
        return bool(mine.update(heartbeat_at=timezone.now(), **progress))

    def finish(self, pk: int, worker: str, run: Run) -> bool:
        mine = self.filter(pk=pk, state=Job.State.RUNNING, worker=worker[:200])
        return bool(mine.update(state=Job.State.DONE, run=run, finished_at=timezone.now(), stage=""))

    def fail(self, pk: int, worker: str, error: str) -> bool:
        mine = self.filter(pk=pk, state=Job.State.RUNNING, worker=worker[:200])
        return bool(
            mine.update(
                state=Job.State.FAILED,
                error=error[:2000].replace("\0", "\N{REPLACEMENT CHARACTER}"),
                finished_at=timezone.now(),
            )
        )

    def cancel(self, pk: int) -> bool:
        """A queued job never starts; a running one stops at its next heartbeat."""
        return bool(self.live().filter(pk=pk).update(state=Job.State.CANCELLED, finished_at=timezone.now()))

    def requeue(self, pk: int) -> bool:
        """Put a job that failed or was cancelled back in the queue. What it had finished is kept."""
        ended = self.filter(pk=pk, state__in=[Job.State.FAILED, Job.State.CANCELLED])
        fresh = {"worker": "", "error": "", "stage": "", "done": 0, "total": 0, "rate": 0.0}
        return bool(ended.update(state=Job.State.QUEUED, started_at=None, finished_at=None, **fresh))


class Job(models.Model):
    """A piece of work.

    QUEUED -> RUNNING -> DONE | FAILED | CANCELLED; FAILED and CANCELLED -> QUEUED by a person.
    ``settings`` is frozen when the row is made. ``attempts`` counts the starts.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    LIVE = (State.QUEUED, State.RUNNING)

    class Kind(models.TextChoices):
        EXTRACTION = "extraction", "extraction"

    kind = models.CharField(max_length=20, choices=Kind, default=Kind.EXTRACTION)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="jobs")
    settings = models.JSONField()
    run = models.ForeignKey(Run, null=True, on_delete=models.SET_NULL, related_name="jobs")
    attempts = models.PositiveIntegerField(default=0)

    stage = models.CharField(max_length=100, blank=True, help_text="what it is doing now, in words")
    done = models.PositiveBigIntegerField(default=0, help_text="tokens read")
    total = models.PositiveBigIntegerField(default=0, help_text="tokens to read; 0 while unknown")
    rate = models.FloatField(default=0, help_text="tokens per second")
    error = models.TextField(blank=True)
    worker = models.CharField(max_length=200, blank=True)
    device = models.CharField(max_length=100, blank=True)

    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    heartbeat_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = JobQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-pk"]
        indexes = [models.Index(fields=["state", "-created_at"])]

    def __str__(self) -> str:
        return f"job {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("job", args=[self.pk])

    @property
    def is_live(self) -> bool:
        return self.state in self.LIVE

    @property
    def can_retry(self) -> bool:
        return self.state in {self.State.FAILED, self.State.CANCELLED}

    @property
    def waits_long(self) -> bool:
        """Queued, and nobody has come for it: most likely no worker runs, or the queue was down when it was sent."""
        return self.state == self.State.QUEUED and timezone.now() - self.created_at > LONG_WAIT

    @property
    def is_silent(self) -> bool:
        """Running by its state, but its worker has stopped writing: another one may take it."""
        heard: datetime | None = self.heartbeat_at
        return self.state == self.State.RUNNING and heard is not None and timezone.now() - heard > SILENT_AFTER

    @property
    def can_send_again(self) -> bool:
        return self.can_retry or self.waits_long or self.is_silent

    @property
    def fraction(self) -> float:
        """Of the pass over the corpus, 0 to 1."""
        if self.state == self.State.DONE:
            return 1.0
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def seconds_left(self) -> float | None:
        return max(0, self.total - self.done) / self.rate if self.rate and self.total else None

    @property
    def seconds(self) -> float | None:
        """How long the last attempt has run, or ran."""
        if self.started_at is None:
            return None
        end: datetime = self.finished_at or timezone.now()
        return (end - self.started_at).total_seconds()
