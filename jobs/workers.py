"""What is known of the workers: for their page, and for whoever waits for one."""

from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from jobs import queues
from jobs.engine.code import code_version
from jobs.models import Worker


@dataclass(frozen=True)
class ShownWorker:
    """``alive`` by this machine's clock; ``other_version``: it runs other code than this web server."""

    row: Worker
    alive: bool
    other_version: bool


@dataclass(frozen=True)
class ShownQueue:
    """``waiting``: messages that nobody has taken, None where Redis is silent; ``takers``: workers alive for it."""

    name: str
    waiting: int | None
    takers: int


@dataclass(frozen=True)
class Overview:
    workers: list[ShownWorker]
    queues: list[ShownQueue]
    queue_down: bool
    version: str

    @property
    def n_alive(self) -> int:
        return sum(worker.alive for worker in self.workers)


@dataclass(frozen=True)
class Wait:
    """Why a text waits, in a sentence, and whether another worker would help."""

    why: str
    start_one: bool


def overview() -> Overview:
    """Every worker that was heard of lately, and the queues. One query, and one look into Redis."""
    version = code_version()["commit"]
    rows = list(Worker.objects.select_related("job").order_by("name"))
    shown = [_shown(row, version) for row in rows]
    try:
        waiting = queues.lengths()
    except queues.QueueDown:
        waiting = None
    takers = {name: sum(w.alive and name in w.row.queues for w in shown) for name in queues.names()}
    listed = [ShownQueue(name, waiting[name] if waiting else None, n) for name, n in takers.items()]
    return Overview(sorted(shown, key=lambda w: not w.alive), listed, waiting is None, version)


def why_waiting(queue: str) -> Wait:
    """What Redis and the workers' rows say of a message in ``queue`` that nobody takes. One query."""
    if not queues.answers():
        return Wait("The queue (Redis) cannot be reached, so no worker knows of it: start Redis.", start_one=False)
    alive = list(Worker.objects.alive().select_related("job"))
    takers = [worker for worker in alive if queue in worker.queues]
    if not alive:
        return Wait("No worker is running.", start_one=True)
    if not takers:
        few = "A worker is" if len(alive) == 1 else f"{len(alive)} workers are"
        return Wait(f"{few} running, but none takes the queue “{queue}”.", start_one=True)
    idle = [worker for worker in takers if not worker.doing]
    if idle:
        return Wait(f"The worker {idle[0]} is idle and should take it any moment.", start_one=False)
    busy = "; ".join(f"{worker} is at {worker.doing}" for worker in takers[:3])
    return Wait(f"Busy: {busy}. The text is next after that.", start_one=True)


def _shown(row: Worker, version: str) -> ShownWorker:
    heard = timezone.now() - row.heartbeat_at
    other = bool(version and row.version and row.version != version)
    return ShownWorker(row, heard < timedelta(seconds=settings.LEASE_SECONDS), other)
