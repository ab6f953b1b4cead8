"""Trial: a text that somebody ran through one feature.

    WAITING -> RUNNING           a worker of the queue ``interactive`` claims it
    RUNNING -> DONE | FAILED     with what came out, or a sentence that says why nothing did
    RUNNING -> WAITING           its worker left or was lost; MAX_LOST_TRYING times, then it is FAILED
    RUNNING, FAILED -> WAITING   a person sends it again, once its worker is lost or has said why not

Its owner and administrators see it, nobody else does.
"""

from datetime import datetime, timedelta
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import F
from django.db.models.functions import Now
from django.urls import reverse
from django.utils import timezone

from features.models import SAE
from features.roles import is_administrator
from jobs.models.leases import Leased, expired, shown, take

MAX_LOST_TRYING = 2
SOON = timedelta(seconds=3)  # so long nobody asks where the worker is
WHY_LOST = (
    f"{MAX_LOST_TRYING} workers were lost while they ran this text: they were killed, or model and SAE do not fit into "
    "their memory. Start a worker with more of it, then send the text again."
)


class TrialQuerySet(models.QuerySet["Trial"]):
    """Every change of state is one conditional UPDATE: of two who try, one sees that it changed nothing."""

    def visible_to(self, user: Any) -> Self:
        return self if is_administrator(user) else self.filter(owner=user)

    def live(self) -> Self:
        return self.filter(state__in=Trial.LIVE)

    def claim(self, pk: int, worker: str) -> bool:
        waiting = self.filter(pk=pk, state=Trial.State.WAITING)
        fresh = {"state": Trial.State.RUNNING, "stage": "", "started_at": Now(), "attempts": F("attempts") + 1}
        return bool(waiting.update(**fresh | take(worker)))

    def held(self, pk: int, worker: str) -> Self:
        return self.filter(pk=pk, state=Trial.State.RUNNING, worker=worker[:200])

    def beat(self, pk: int, worker: str, **values: Any) -> bool:
        """Write a heartbeat and ``values``. False: it is no longer this worker's."""
        return bool(self.held(pk, worker).update(heartbeat_at=Now(), **values))

    def finish(self, pk: int, worker: str, **values: Any) -> bool:
        end = {"state": Trial.State.DONE, "stage": "", "error": "", "finished_at": Now()}
        return bool(self.held(pk, worker).update(**end | values))

    def fail(self, pk: int, worker: str, error: str) -> bool:
        end = {"state": Trial.State.FAILED, "stage": "", "finished_at": Now()}
        return bool(self.held(pk, worker).update(error=shown(error, 2000), **end))

    def release(self, pk: int, worker: str) -> bool:
        """Leave it to others, without blame."""
        return bool(self.held(pk, worker).update(state=Trial.State.WAITING, worker="", stage=""))

    def put_back(self) -> int:
        """What lost its worker waits for another one, or is given up."""
        left = {"worker": "", "stage": ""}
        lost = self.filter(expired(), state=Trial.State.RUNNING)
        end = {"state": Trial.State.FAILED, "error": WHY_LOST, "finished_at": Now()}
        lost.filter(lost__gte=MAX_LOST_TRYING - 1).update(**end | left)
        return lost.update(state=Trial.State.WAITING, lost=F("lost") + 1, **left)

    def send_again(self, pk: int) -> bool:
        """A person asks for another try of one that failed or has lost its worker."""
        fresh = {"worker": "", "stage": "", "error": "", "lost": 0, "finished_at": None, "created_at": Now()}
        over = self.filter(pk=pk, state=Trial.State.FAILED) | self.filter(expired(), pk=pk, state=Trial.State.RUNNING)
        return bool(over.update(state=Trial.State.WAITING, **fresh))


class Trial(Leased):
    """See the top of this file for its states.

    ``token_ids`` and ``result`` pack the ids (features.store.contexts) and the feature's activation of each token, as
    little-endian float32; what is masked has 0. ``provenance`` says what they were computed with (jobs.work.trial).
    """

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"

    LIVE = (State.WAITING, State.RUNNING)

    sae = models.ForeignKey(SAE, on_delete=models.CASCADE, related_name="trials")
    index = models.PositiveIntegerField(help_text="the feature's")
    text = models.TextField()
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="trials")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING, db_index=True)
    stage = models.CharField(max_length=100, blank=True, help_text="what takes long, in words")
    token_ids = models.BinaryField(default=b"")
    result = models.BinaryField(default=b"")
    error = models.TextField(blank=True)
    seconds = models.FloatField(null=True, help_text="from the claim to the answer")
    provenance = models.JSONField(default=dict)
    created_at = models.DateTimeField(default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    objects = TrialQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"trial {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("trial", args=[self.pk])

    @property
    def is_live(self) -> bool:
        return self.state in self.LIVE

    @property
    def is_lost(self) -> bool:
        """Running by its state, but its worker has stopped writing."""
        heard: datetime | None = self.heartbeat_at
        silence = timedelta(seconds=settings.LEASE_SECONDS)
        return self.state == self.State.RUNNING and heard is not None and timezone.now() - heard > silence

    @property
    def waits_long(self) -> bool:
        return self.state == self.State.WAITING and self.age > SOON

    @property
    def can_send_again(self) -> bool:
        return self.state == self.State.FAILED or self.is_lost

    @property
    def age(self) -> timedelta:
        return timezone.now() - self.created_at
