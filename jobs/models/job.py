"""Job: a piece of work, and the states it goes through.

    QUEUED -> RUNNING            a worker claims its planning
    RUNNING -> DONE | FAILED     the worker that finishes it, or one that met an error that ends it
    QUEUED, RUNNING -> CANCELLED and FAILED, CANCELLED -> QUEUED: a person

A running job is in one of three phases. Planning and finishing belong to one worker, who holds the job's lease; in
between, any number of workers hold leases on its shards (jobs.models.shard).

    PLANNING -> EXTRACTING       its shards are cut
    EXTRACTING -> FINISHING      a worker claims the end, once every shard is done
    FINISHING -> EXTRACTING      the file of a shard is damaged, so the shard is read again

A lease that is let go or expires changes no phase: the next worker claims it. A job that is queued again is planned
again, and keeps the shards that are done if the plan comes out the same.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Self

from django.conf import settings
from django.db import models, transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery, Sum, Value
from django.db.models.functions import Coalesce, Concat, Now, Right
from django.urls import reverse
from django.utils import timezone

from features.models import Run
from jobs.models.leases import MAX_FAILURES, MAX_LOST, Leased, free, shown, take, used_up
from jobs.models.shard import Shard

SILENT_AFTER = max(timedelta(minutes=2), timedelta(seconds=4 * settings.LEASE_SECONDS))
LONG_WAIT = timedelta(seconds=10)
LOG_CHARACTERS, LOG_LINES = 24_000, 200


class JobQuerySet(models.QuerySet["Job"]):
    """Every change of state is one conditional UPDATE: of two who try, one sees that it changed nothing."""

    def for_listing(self) -> Self:
        """With whom and what a line names, without what only a job's page shows."""
        return self.for_page().defer("log", "traceback", "plan")

    def for_page(self) -> Self:
        return self.select_related("owner", "run__sae")

    def live(self) -> Self:
        """Queued or running, the oldest first."""
        return self.filter(state__in=Job.LIVE).order_by("pk")

    def ended_before(self, pk: int | None) -> Self:
        """Ended, the newest first; with a key, only those older than that job."""
        ended = self.exclude(state__in=Job.LIVE).order_by("-pk")
        return ended if pk is None else ended.filter(pk__lt=pk)

    def in_phase(self, phase: str) -> Self:
        return self.filter(state=Job.State.RUNNING, phase=phase)

    def held(self, pk: int, worker: str) -> Self:
        """The job, while this worker has its lease."""
        return self.filter(pk=pk, state=Job.State.RUNNING, worker=worker[:200])

    def claimable(self) -> Self:
        """Jobs that have something to do for a worker: sending one of them to the workers again does no harm."""
        shards = Shard.objects.filter(job=OuterRef("pk"))
        shard_to_read = Q(Exists(shards.claimable())) | ~Q(Exists(shards.exclude(state=Shard.State.DONE)))
        running = (Q(phase=Job.Phase.EXTRACTING) & shard_to_read) | (~Q(phase=Job.Phase.EXTRACTING) & free())
        return self.filter(Q(state=Job.State.QUEUED) | (Q(state=Job.State.RUNNING) & running))

    def claim(self, pk: int, worker: str) -> bool:
        """Take a job that is to be planned for ``worker``: a queued one, or one whose planner left or was lost."""
        to_plan = Q(state=Job.State.QUEUED) | (Q(state=Job.State.RUNNING, phase=Job.Phase.PLANNING) & free())
        fresh = {"finished_at": None, "error": "", "stage": "", "done": 0, "total": 0, "rate": 0.0}
        taken = self.filter(to_plan, pk=pk).update(
            state=Job.State.RUNNING,
            phase=Job.Phase.PLANNING,
            attempts=F("attempts") + 1,
            started_at=Coalesce(F("started_at"), Now()),
            **fresh | take(worker),
        )
        return bool(taken)

    def claim_finish(self, pk: int, worker: str) -> bool:
        """Take the end of a job whose shards are all done."""
        undone = Shard.objects.filter(job=OuterRef("pk")).exclude(state=Shard.State.DONE)
        read = Q(phase=Job.Phase.EXTRACTING) & ~Q(Exists(undone))
        left = Q(phase=Job.Phase.FINISHING) & free()
        ready = self.filter(read | left, pk=pk, state=Job.State.RUNNING)
        return bool(ready.update(phase=Job.Phase.FINISHING, **take(worker)))

    def beat(self, pk: int, worker: str, **progress: Any) -> bool:
        """Write progress. False: the job is no longer this worker's to run; it was cancelled or taken over."""
        return bool(self.held(pk, worker).update(heartbeat_at=Now(), **progress))

    def add_up(self, pk: int) -> None:
        """Let the job's progress be that of its shards."""

        def total(column: str) -> Any:
            sums = Shard.objects.filter(job=OuterRef("pk")).order_by().values("job").annotate(all=Sum(column))
            kind: Any = Job._meta.get_field(column)
            return Coalesce(Subquery(sums.values("all")), 0, output_field=kind)

        running = self.in_phase(Job.Phase.EXTRACTING).filter(pk=pk)
        running.update(heartbeat_at=Now(), done=total("done"), rate=total("rate"))

    def tell(self, pk: int, text: str, worker: str = "") -> None:
        """Add a line to the job's log, of which the end is kept."""
        self.filter(pk=pk).update(log=logged(text, worker))

    def note(self, pk: int, text: str) -> None:
        """Add a line to what a reader of the job's page is to know, unless it is there."""
        line = shown(" ".join(text.split()), 300)
        self.filter(pk=pk).exclude(notes__contains=line).update(
            notes=Concat("notes", Value(f"{line}\n")), log=logged(line)
        )

    def planned(self, pk: int, worker: str, plan: dict[str, Any], shards: Sequence[Shard]) -> bool:
        """The shards are cut, and anybody may take one. Those of an earlier plan stay if they are the same."""
        with transaction.atomic():
            old = self.filter(pk=pk).values_list("plan", flat=True).first() or {}
            values = {"phase": Job.Phase.EXTRACTING, "stage": "extracting", "total": sum(s.n_tokens for s in shards)}
            lease = {"worker": "", "lost": 0, "failures": 0}
            lease["log"] = logged(f"planned: {values['total']:,} tokens in {len(shards)} shards", worker)
            if not self.held(pk, worker).update(plan=plan, done=0, rate=0.0, heartbeat_at=Now(), **values | lease):
                return False
            cuts = list(Shard.objects.filter(job=pk).values_list("number", "first_batch", "n_batches"))
            same = old.get("identity") == plan["identity"]
            if not same or cuts != [(s.number, s.first_batch, s.n_batches) for s in shards]:
                Shard.objects.filter(job=pk).delete()
                Shard.objects.bulk_create(shards)
            self.add_up(pk)
        return True

    def reopen(self, pk: int, worker: str, broken: Shard | None = None, note: str = "") -> bool:
        """Back to the shards: one whose file is broken is to be made again."""
        with transaction.atomic():
            lease = {"worker": "", "lost": 0, "failures": 0}
            if not self.held(pk, worker).update(phase=Job.Phase.EXTRACTING, stage="extracting", **lease):
                return False
            if broken is not None:
                again = {"state": Shard.State.WAITING, "worker": "", "file": "", "done": 0, "note": note}
                shards = Shard.objects.filter(pk=broken.pk, state=Shard.State.DONE, file=broken.file)
                shards.update(failures=F("failures") + 1, **again)
        return True

    def finish(self, pk: int, worker: str, run: Run | None) -> bool:
        """The run is there; a map has none. Nothing is left to know of the shards: their work is the run's."""
        with transaction.atomic():
            end = {"state": Job.State.DONE, "stage": "", "rate": 0.0, "finished_at": Now()}
            end["log"] = logged(f"done: run {run.pk}" if run else "done", worker)
            if not self.held(pk, worker).update(run=run, done=F("total"), **end):
                return False
            Shard.objects.filter(job=pk).delete()
        return True

    def release(self, pk: int, worker: str) -> bool:
        """Leave planning or finishing to others, without blame."""
        return bool(self.held(pk, worker).update(worker=""))

    def fail(self, pk: int, worker: str, error: str, trace: str = "") -> bool:
        """End the job that this worker holds."""
        return self._fail(self.held(pk, worker), pk, error, trace)

    def fail_extracting(self, pk: int, error: str, trace: str = "") -> bool:
        """End the job because of one of its shards."""
        return self._fail(self.in_phase(Job.Phase.EXTRACTING).filter(pk=pk), pk, error, trace)

    def count_failure(self, pk: int, worker: str, error: str, trace: str) -> None:
        """Let the next worker try planning or finishing again; the MAX_FAILURES-th time, end the job."""
        if self.held(pk, worker).filter(failures__gte=MAX_FAILURES - 1).exists():
            self.fail(pk, worker, error, trace)
        else:
            trace, log = shown(trace, 20_000), logged(f"failed, and is tried again: {error}", worker)
            self.held(pk, worker).update(worker="", failures=F("failures") + 1, traceback=trace, log=log)

    def give_up(self, pk: int) -> bool:
        """End the job if it, or one of its shards, has been tried for too long."""
        worn = self.exclude(phase=Job.Phase.EXTRACTING).filter(used_up(), pk=pk, state=Job.State.RUNNING)
        if job := worn.first():
            why = f"{MAX_LOST} workers were lost while {job.get_phase_display()} it: {WHY_LOST}"
            return self._fail(worn, pk, why, str(job.traceback))
        shard = Shard.objects.of_live_job().filter(job=pk).used_up().first()
        if shard is None:
            return False
        if shard.state == Shard.State.FAILED:
            return self.fail_extracting(pk, failed(shard), shard.error)
        return self.fail_extracting(pk, f"{MAX_LOST} workers were lost at shard {shard.number}: {WHY_LOST}")

    def cancel(self, pk: int) -> bool:
        """A queued job never starts; a running one stops after the batches that are being read."""
        with transaction.atomic():
            live = self.live().filter(pk=pk)
            if not live.update(state=Job.State.CANCELLED, rate=0.0, finished_at=Now(), log=logged("cancelled")):
                return False
            Shard.objects.release_all(pk)
        return True

    def requeue(self, pk: int) -> bool:
        """Put a job that failed or was cancelled back in the queue. What it had finished is kept."""
        fresh = {"worker": "", "error": "", "traceback": "", "notes": "", "stage": "", "done": 0, "total": 0}
        count = {"rate": 0.0, "lost": 0, "failures": 0, "started_at": None, "finished_at": None}
        fresh["log"] = logged("sent again")
        with transaction.atomic():
            ended = self.filter(pk=pk, state__in=[Job.State.FAILED, Job.State.CANCELLED])
            if not ended.update(state=Job.State.QUEUED, phase=Job.Phase.PLANNING, **fresh | count):
                return False
            Shard.objects.release_all(pk)
            Shard.objects.forgive(pk)
        return True

    def _fail(self, jobs: Self, pk: int, error: str, trace: str) -> bool:
        end = {"state": Job.State.FAILED, "rate": 0.0, "finished_at": Now(), "log": logged(f"failed: {error}")}
        with transaction.atomic():
            if not jobs.update(error=shown(error, 2000), traceback=shown(trace, 20_000), **end):
                return False
            Shard.objects.release_all(pk)
        return True


class Job(Leased):
    """A piece of work; see the top of this file for its states.

    ``settings`` is frozen when the row is made. ``attempts`` counts how often it was planned. ``plan`` is what every
    worker of it has to agree on (jobs.work.plan). ``worker`` plans or finishes it, or did so last.
    """

    class State(models.TextChoices):
        QUEUED = "queued", "queued"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"
        CANCELLED = "cancelled", "cancelled"

    LIVE = (State.QUEUED, State.RUNNING)

    class Phase(models.TextChoices):
        PLANNING = "planning", "planning"
        EXTRACTING = "extracting", "extracting"
        FINISHING = "finishing", "finishing"

    class Kind(models.TextChoices):
        EXTRACTION = "extraction", "extraction"
        MAP = "map", "map"

    kind = models.CharField(max_length=20, choices=Kind, default=Kind.EXTRACTION)
    state = models.CharField(max_length=10, choices=State, default=State.QUEUED)
    phase = models.CharField(max_length=10, choices=Phase, default=Phase.PLANNING)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="jobs")
    settings = models.JSONField()
    plan = models.JSONField(default=dict, blank=True)
    run = models.ForeignKey(Run, null=True, on_delete=models.SET_NULL, related_name="jobs")

    stage = models.CharField(max_length=100, blank=True, help_text="what it is doing now, in words")
    done = models.PositiveBigIntegerField(default=0, help_text="tokens read")
    total = models.PositiveBigIntegerField(default=0, help_text="tokens to read; 0 while unknown")
    rate = models.FloatField(default=0, help_text="tokens per second, of all workers together")
    error = models.TextField(blank=True)
    traceback = models.TextField(blank=True, help_text="of an error that nobody foresaw")
    notes = models.TextField(blank=True, help_text="what a reader of its page is to know, one sentence a line")
    log = models.TextField(blank=True, help_text="what its workers told, a line each, the last ones alone")

    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
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
    def note_lines(self) -> list[str]:
        return str(self.notes).splitlines()

    @property
    def log_lines(self) -> list[str]:
        """The last LOG_LINES whole lines."""
        lines = str(self.log).splitlines()
        return lines[1 if len(self.log) >= LOG_CHARACTERS else 0 :][-LOG_LINES:]

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


WHY_LOST = (
    "they were killed, ran out of the machine's memory, or could not reach the database. Their logs may say more; "
    "then send the job again."
)


def logged(text: str, worker: str = "") -> Any:
    """What an UPDATE sets a job's log to: its end, and behind it ``text`` on a line with the time and who says it."""
    who = f" {worker.rpartition(':')[0] or worker}" if worker else ""
    line = f"{timezone.now():%Y-%m-%d %H:%M:%S}{who}  {' '.join(text.split())}"
    return Right(Concat("log", Value(f"{shown(line, 400)}\n")), LOG_CHARACTERS)


def failed(shard: Shard) -> str:
    """What a job says that fails with one of its shards."""
    last = shard.error.strip().rpartition("\n")[2][:500]
    return f"Shard {shard.number} failed {shard.failures} times with an error that nobody foresaw: {last}"
