"""Import: files of features that were made elsewhere, and what became of them.

    WAITING -> READING          a worker claims it
    READING -> DONE | REFUSED   everything that could be read is here, or nothing could, and a sentence says why
    READING -> WAITING          its worker was lost: the next one goes on behind what is read; MAX_LOST_READING times
    DONE, REFUSED -> WAITING    a person wants it read again

Everybody signed in may look at it; its owner and administrators may have it read again and delete it.
"""

from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import F
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from features.models import Run
from jobs.models.leases import Leased, expired, shown, take

MAX_LOST_READING = 3
MAX_FAULTS = 1000
LONG_WAIT = timedelta(seconds=10)
WHY_LOST = (
    f"{MAX_LOST_READING} workers were lost while they read it: they were killed, or it does not fit into their "
    "memory or on their disk. Start a worker with more of both, then have it read again."
)


class ImportQuerySet(models.QuerySet["Import"]):
    """Every change of state is one conditional UPDATE: of two who try, one sees that it changed nothing."""

    def for_listing(self) -> Self:
        return self.select_related("owner", "run__sae").defer("faults").order_by("-pk")

    def waiting(self) -> Self:
        return self.filter(state=Import.State.WAITING).order_by("pk")

    def claim(self, pk: int, worker: str) -> bool:
        fresh: dict[str, Any] = {"error": "", "progress": {}, "finished_at": None, "attempts": F("attempts") + 1}
        return bool(self.waiting().filter(pk=pk).update(state=Import.State.READING, **take(worker) | fresh))

    def held(self, pk: int, worker: str) -> Self:
        return self.filter(pk=pk, state=Import.State.READING, worker=worker[:200])

    def beat(self, pk: int, worker: str, **progress: Any) -> bool:
        """Write progress. False: it is no longer this worker's; it was deleted, or given to another."""
        return bool(self.held(pk, worker).update(heartbeat_at=Now(), **progress))

    def finish(self, pk: int, worker: str, **found: Any) -> bool:
        end = {"state": Import.State.DONE, "worker": "", "lost": 0, "finished_at": Now()}
        return bool(self.held(pk, worker).update(**end | found))

    def refuse(self, pk: int, worker: str, error: str, **found: Any) -> bool:
        end = {"state": Import.State.REFUSED, "worker": "", "lost": 0, "finished_at": Now()}
        return bool(self.held(pk, worker).update(error=shown(error, 2000), **end | found))

    def release(self, pk: int, worker: str) -> bool:
        """Leave it to others, without blame."""
        return bool(self.held(pk, worker).update(state=Import.State.WAITING, worker=""))

    def put_back(self) -> int:
        """What lost its worker waits for another one, or is refused."""
        lost = self.filter(expired(), state=Import.State.READING)
        ended = {"state": Import.State.REFUSED, "error": WHY_LOST, "finished_at": Now(), "worker": ""}
        lost.filter(lost__gte=MAX_LOST_READING - 1).update(**ended)
        return lost.update(state=Import.State.WAITING, lost=F("lost") + 1, worker="")

    def read_again(self, pk: int) -> bool:
        read = self.filter(pk=pk, state__in=[Import.State.DONE, Import.State.REFUSED])
        counts = dict.fromkeys(("n_read", "n_new", "n_changed", "n_same", "n_refused", "lost"), 0)
        fresh: dict[str, Any] = {"error": "", "progress": {}, "faults": [], "finished_at": None}
        return bool(read.update(state=Import.State.WAITING, **counts | fresh))


class Import(Leased):
    """``source``: a path on the server; of an upload it is empty, and ``place`` names its folder in the storage, where
    ``files``, {name, bytes, stored} each, are. ``progress``: what its worker is at, {stage, file, n_files, number,
    line}; ``faults``: {file, line, why} of the first records that were refused.

    Features and labels count once each as new, changed or the same; records are lines of the files.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        READING = "reading", "reading"
        DONE = "done", "done"
        REFUSED = "refused", "refused"

    name = models.CharField(max_length=200)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="imports")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    layout = models.CharField(max_length=20, blank=True, help_text="neuronpedia or saedashboard, once it is known")
    source = models.CharField(max_length=500, blank=True, help_text="a path on the server; empty for an upload")
    place = models.CharField(max_length=100, blank=True, help_text="of an upload: its folder in the storage")
    files = models.JSONField(default=list)
    run = models.ForeignKey(Run, null=True, on_delete=models.SET_NULL, related_name="imports")
    progress = models.JSONField(default=dict)
    n_read = models.PositiveBigIntegerField(default=0, help_text="records read, refused ones included")
    n_new = models.PositiveBigIntegerField(default=0, help_text="features and labels that were not here before")
    n_changed = models.PositiveBigIntegerField(default=0)
    n_same = models.PositiveBigIntegerField(default=0)
    n_refused = models.PositiveBigIntegerField(default=0, help_text="records")
    faults = models.JSONField(default=list, help_text="the first thousand")
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    objects = ImportQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("import", args=[self.pk])

    @property
    def is_live(self) -> bool:
        """It changes by itself."""
        return self.state in {self.State.WAITING, self.State.READING}

    @property
    def is_upload(self) -> bool:
        return not self.source

    @property
    def n_bytes(self) -> int:
        return sum(file["bytes"] for file in self.files)

    @property
    def waits_long(self) -> bool:
        return self.state == self.State.WAITING and timezone.now() - self.created_at > LONG_WAIT
