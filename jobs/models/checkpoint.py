"""Checkpoint: an SAE that somebody added, from where it comes to what a worker found in it.

    RECEIVING -> WAITING        an upload: its last byte is here, and its files are in the storage
    WAITING -> READING          a worker claims it; what is named by a path or a hub id begins as WAITING
    READING -> READY | REFUSED  the worker read it, or says in a sentence why it cannot be used
    READING -> WAITING          its worker was lost; MAX_LOST_READING times, then it is REFUSED
    READY, REFUSED -> WAITING   a person wants it read again, and may say what the files do not

Everybody signed in may look at it and use it; its owner and administrators may change it.
"""

from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import F
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from jobs.models.leases import expired, shown, take

MAX_LOST_READING = 3
LONG_WAIT = timedelta(seconds=10)
WHY_LOST = (
    f"{MAX_LOST_READING} workers were lost while they read it: they were killed, or the SAE is larger than their "
    "memory. Start a worker with more of it, then have it read again."
)


class CheckpointQuerySet(models.QuerySet["Checkpoint"]):
    """Every change of state is one conditional UPDATE: of two who try, one sees that it changed nothing."""

    def for_listing(self) -> Self:
        return self.select_related("owner").order_by("-pk")

    def ready(self) -> Self:
        return self.filter(state=Checkpoint.State.READY).order_by("name", "pk")

    def receiving(self) -> Self:
        return self.filter(state=Checkpoint.State.RECEIVING)

    def touch(self, pk: int) -> None:
        """A piece has come."""
        self.receiving().filter(pk=pk).update(updated_at=Now())

    def received(self, pk: int) -> bool:
        return bool(self.receiving().filter(pk=pk).update(state=Checkpoint.State.WAITING, updated_at=Now()))

    def claim(self, pk: int, worker: str) -> bool:
        waiting = self.filter(pk=pk, state=Checkpoint.State.WAITING)
        fresh = {"error": "", "done": 0, "total": 0, "updated_at": Now()}
        return bool(waiting.update(state=Checkpoint.State.READING, **take(worker) | fresh))

    def held(self, pk: int, worker: str) -> Self:
        return self.filter(pk=pk, state=Checkpoint.State.READING, worker=worker[:200])

    def beat(self, pk: int, worker: str, **progress: Any) -> bool:
        """Write progress. False: it is no longer this worker's; it was deleted, or given to another."""
        return bool(self.held(pk, worker).update(heartbeat_at=Now(), **progress))

    def finish(self, pk: int, worker: str, card: dict[str, Any], revision: str) -> bool:
        end = {"state": Checkpoint.State.READY, "worker": "", "lost": 0, "updated_at": Now()}
        return bool(self.held(pk, worker).update(card=card, revision=shown(revision, 100), **end))

    def refuse(self, pk: int, worker: str, error: str) -> bool:
        end = {"state": Checkpoint.State.REFUSED, "worker": "", "lost": 0, "updated_at": Now()}
        return bool(self.held(pk, worker).update(error=shown(error, 2000), card={}, **end))

    def release(self, pk: int, worker: str) -> bool:
        """Leave it to others, without blame."""
        return bool(self.held(pk, worker).update(state=Checkpoint.State.WAITING, worker=""))

    def put_back(self) -> int:
        """What lost its worker waits for another one, or is refused."""
        left = {"worker": "", "updated_at": Now()}
        lost = self.filter(expired(), state=Checkpoint.State.READING)
        lost.filter(lost__gte=MAX_LOST_READING - 1).update(state=Checkpoint.State.REFUSED, error=WHY_LOST, **left)
        return lost.update(state=Checkpoint.State.WAITING, lost=F("lost") + 1, **left)

    def read_again(self, pk: int, overrides: dict[str, Any]) -> bool:
        read = self.filter(pk=pk, state__in=[Checkpoint.State.READY, Checkpoint.State.REFUSED])
        fresh = {"error": "", "card": {}, "revision": "", "lost": 0, "updated_at": Now()}
        return bool(read.update(state=Checkpoint.State.WAITING, overrides=overrides, **fresh))


class Checkpoint(models.Model):
    """See the top of this file for its states.

    ``place``: the path or the hub id as it was given; of an upload, the name of its folder in uploads/, in the storage
    and in the caches. ``files``: of an upload, ``{name, bytes, modified, stored}`` each, stored being its name in the
    storage once all of it is here. ``overrides``: what a person says of it that its files do not.
    """

    class Origin(models.TextChoices):
        UPLOAD = "upload", "uploaded"
        HUB = "hub", "Hugging Face"
        PATH = "path", "on the server"

    class State(models.TextChoices):
        RECEIVING = "receiving", "receiving"
        WAITING = "waiting", "waiting"
        READING = "reading", "reading"
        READY = "ready", "ready"
        REFUSED = "refused", "refused"

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="checkpoints"
    )
    name = models.CharField(max_length=200)
    origin = models.CharField(max_length=10, choices=Origin)
    place = models.CharField(max_length=500)
    revision = models.CharField(max_length=100, blank=True, help_text="of the hub's repository, as it was read")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    error = models.TextField(blank=True, help_text="why it is refused, in one sentence")
    card = models.JSONField(default=dict, blank=True)
    files = models.JSONField(default=list, blank=True)
    overrides = models.JSONField(default=dict, blank=True)

    worker = models.CharField(max_length=200, blank=True)
    heartbeat_at = models.DateTimeField(null=True)
    lost = models.PositiveIntegerField(default=0, help_text="workers that were not heard of any more")
    done = models.PositiveBigIntegerField(default=0, help_text="bytes fetched")
    total = models.PositiveBigIntegerField(default=0, help_text="bytes to fetch; 0 while unknown")

    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects = CheckpointQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("checkpoint", args=[self.pk])

    @property
    def source(self) -> str:
        """Its lasting name: what a request may name, and what the rows of SAEs made from it remember."""
        return f"checkpoint:{self.pk}"

    @property
    def is_live(self) -> bool:
        """It changes by itself."""
        return self.state in {self.State.WAITING, self.State.READING}

    @property
    def can_read_again(self) -> bool:
        return self.state in {self.State.READY, self.State.REFUSED}

    @property
    def waits_long(self) -> bool:
        return self.state == self.State.WAITING and timezone.now() - self.updated_at > LONG_WAIT

    @property
    def n_bytes(self) -> int:
        return sum(file["bytes"] for file in self.files)
