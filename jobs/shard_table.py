"""A job's shards as its page shows them: rows while it is under way, the run's record of them afterwards."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jobs.models import Job, Shard

FEW = 8  # shown at once; more are folded away


@dataclass(frozen=True)
class ShardTable:
    rows: list[dict[str, Any]]

    @property
    def few(self) -> bool:
        return 1 < len(self.rows) <= FEW

    @property
    def summary(self) -> str:
        """``5 of 12 done, 2 running``; of a job that is done, how many there were."""
        n = Counter(row["state"] for row in self.rows)
        rest = [f"{n[state]} {state}" for state in (Shard.State.RUNNING, Shard.State.FAILED) if n[state]]
        if n[Shard.State.DONE] == len(self.rows) and not rest:
            return f"{len(self.rows)}, all done"
        return ", ".join([f"{n[Shard.State.DONE]} of {len(self.rows)} done", *rest])

    @property
    def workers(self) -> list[str]:
        """Who is at it now, and on what."""
        running = [row for row in self.rows if row["state"] == Shard.State.RUNNING and row["worker"]]
        return sorted({_named(row["worker"], row["device"]) for row in running})


def workers_at(jobs: Iterable[Job]) -> dict[int, list[str]]:
    """For each of ``jobs`` who plans or finishes it, or reads its shards, and on what. One query."""
    found = {job.pk: [_named(job.worker, job.device)] if job.worker else [] for job in jobs}
    running = Shard.objects.filter(job__in=found, state=Shard.State.RUNNING).exclude(worker="")
    for pk, worker, device in running.values_list("job", "worker", "device").order_by("worker"):
        if _named(worker, device) not in found[pk]:
            found[pk].append(_named(worker, device))
    return found


def shard_table(job: Job) -> ShardTable:
    if job.state == Job.State.DONE:
        return ShardTable([_kept(item) for item in job.run.work] if job.run else [])
    if job.state == Job.State.QUEUED:
        return ShardTable([])
    return ShardTable([_row(shard) for shard in job.shards.all()])


def _named(worker: str, device: str) -> str:
    return f"{worker} on {device}" if device else worker


def _row(shard: Shard) -> dict[str, Any]:
    known = {"state": shard.state, "done": shard.done, "rate": shard.tokens_per_second}
    note = shard.note or (f"failures so far: {shard.failures}" if shard.failures else "")
    return shard.work | known | {"note": note, "seconds": shard.seconds if shard.state == "done" else None}


def _kept(item: dict[str, Any]) -> dict[str, Any]:
    rate = item["tokens"] / item["seconds"] if item.get("seconds") else 0.0
    return item | {"state": Shard.State.DONE.value, "rate": rate}
