"""Shard: a run of a job's batches that one worker reads at a time.

    WAITING -> RUNNING   a worker claims it
    RUNNING -> DONE      its state is stored, and ``file`` names it
    RUNNING -> WAITING   its worker left, failed at it, or was lost: then another one may claim it from RUNNING as well
    RUNNING -> FAILED    its MAX_FAILURES-th failure; the job fails with it
    DONE -> WAITING      its file turned out to be damaged

The rows of a job go when it is done; what they took is kept with its run.
"""

from typing import Any, Self

from django.db import models
from django.db.models import F

from jobs.models.leases import MAX_FAILURES, Leased, free, shown, take, used_up


class ShardQuerySet(models.QuerySet["Shard"]):
    """Every change of state is one conditional UPDATE: of two who try, one sees that it changed nothing."""

    def of_live_job(self) -> Self:
        return self.filter(job__state="running", job__phase="extracting")

    def claimable(self) -> Self:
        return self.filter(free(), state__in=[Shard.State.WAITING, Shard.State.RUNNING])

    def used_up(self) -> Self:
        """Failed too often, or lost too many workers: their jobs are to fail."""
        return self.filter(used_up(), state=Shard.State.RUNNING) | self.filter(state=Shard.State.FAILED)

    def claim(self, job_id: int, worker: str) -> "Shard | None":
        """Take the next shard of the job, the ones that failed before last."""
        while True:
            open_ones = self.of_live_job().claimable().filter(job=job_id).order_by("failures", "number")
            pk = open_ones.values_list("pk", flat=True).first()
            if pk is None:
                return None
            fresh = {"done": 0, "rate": 0.0, "started_at": models.functions.Now(), "finished_at": None}
            values = take(worker) | fresh | {"attempts": F("attempts") + 1, "state": Shard.State.RUNNING}
            if self.of_live_job().claimable().filter(pk=pk).update(**values):
                return self.get(pk=pk)

    def held(self, pk: int, worker: str) -> Self:
        """The shard, while it is this worker's and its job still runs."""
        return self.of_live_job().filter(pk=pk, state=Shard.State.RUNNING, worker=worker[:200])

    def beat(self, pk: int, worker: str, **progress: Any) -> bool:
        """Write progress. False: the shard is no longer this worker's; it was taken over, or its job has ended."""
        return bool(self.held(pk, worker).update(heartbeat_at=models.functions.Now(), **progress))

    def finish(self, pk: int, worker: str, **values: Any) -> bool:
        """Done. False: somebody else's result counts."""
        end = {"state": Shard.State.DONE, "worker": worker[:200], "finished_at": models.functions.Now(), "rate": 0.0}
        return bool(self.held(pk, worker).update(done=F("n_tokens"), error="", **end | values))

    def release(self, pk: int, worker: str) -> bool:
        """Leave it to others, without blame."""
        return bool(self.held(pk, worker).update(**LEFT))

    def fail(self, pk: int, worker: str, error: str) -> int | None:
        """Count a failure, and leave the shard to the next attempt if there is to be one.

        The number of failures so far; None if the shard is no longer this worker's.
        """
        error = shown(error, 20_000)
        last = self.held(pk, worker).filter(failures__gte=MAX_FAILURES - 1)
        if last.update(**LEFT | {"state": Shard.State.FAILED, "failures": F("failures") + 1, "error": error}):
            return MAX_FAILURES
        if not self.held(pk, worker).update(**LEFT | {"failures": F("failures") + 1, "error": error}):
            return None
        return int(self.values_list("failures", flat=True).get(pk=pk))

    def release_all(self, job_id: int) -> int:
        """The job ended or begins again: nobody is at its shards. Those that are done stay so."""
        return self.filter(job=job_id, state__in=[Shard.State.RUNNING, Shard.State.FAILED]).update(**LEFT)

    def forgive(self, job_id: int) -> int:
        """Count anew: a person has asked for another try."""
        return self.filter(job=job_id).exclude(state=Shard.State.DONE).update(failures=0, lost=0, error="")


class Shard(Leased):
    """``n_batches`` batches of the job's plan, from ``first_batch`` on; see the top of this file for its states."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="shards")
    number = models.PositiveIntegerField()
    first_batch = models.PositiveIntegerField()
    n_batches = models.PositiveIntegerField()
    n_contexts = models.PositiveBigIntegerField()
    n_tokens = models.PositiveBigIntegerField()

    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    done = models.PositiveBigIntegerField(default=0, help_text="tokens read")
    rate = models.FloatField(default=0, help_text="tokens per second, while it runs")
    error = models.TextField(blank=True, help_text="the traceback of its last failure")
    note = models.CharField(max_length=300, blank=True)
    file = models.CharField(max_length=300, blank=True, help_text="its state, in the storage")
    seconds = models.FloatField(default=0, help_text="what its last attempt took")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = ShardQuerySet.as_manager()

    class Meta:
        ordering = ["job", "number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="one_shard_per_number")]

    def __str__(self) -> str:
        return f"shard {self.number} of job {self.job_id}"

    @property
    def work(self) -> dict[str, Any]:
        """What is kept of it with the run."""
        return {
            "number": self.number,
            "tokens": self.n_tokens,
            "seconds": round(self.seconds, 3),
            "worker": self.worker,
            "device": self.device,
            "attempts": self.attempts,
            "note": self.note,
        }

    @property
    def tokens_per_second(self) -> float:
        if self.state == self.State.DONE:
            return self.n_tokens / self.seconds if self.seconds else 0.0
        return float(self.rate)


LEFT = {"state": Shard.State.WAITING, "worker": "", "done": 0, "rate": 0.0}
