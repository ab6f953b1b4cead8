"""Leases: what a worker holds for as long as it is heard of. An expired one may be taken by anybody.

Times are the database's own, so that workers whose clocks differ do not rob each other.
"""

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import models
from django.db.models import Case, F, Q, Value, When
from django.db.models.functions import Now

MAX_FAILURES = 3  # exceptions of one piece of work, after which its job fails
MAX_LOST = 25  # workers that were killed or cut off at one piece of work, after which its job fails


class Leased(models.Model):
    """Something that one worker at a time may hold: ``worker`` is empty while nobody does."""

    worker = models.CharField(max_length=200, blank=True)
    heartbeat_at = models.DateTimeField(null=True)
    attempts = models.PositiveIntegerField(default=0, help_text="how often a worker began it")
    lost = models.PositiveIntegerField(default=0, help_text="workers that were not heard of any more")
    failures = models.PositiveIntegerField(default=0, help_text="attempts that ended with an unknown error")
    device = models.CharField(max_length=100, blank=True)

    class Meta:
        abstract = True


def expired() -> Q:
    """Held, but its worker has not been heard of for LEASE_SECONDS."""
    return ~Q(worker="") & Q(heartbeat_at__lt=Now() - timedelta(seconds=settings.LEASE_SECONDS))


def free() -> Q:
    """Held by nobody, or by a worker that was lost and not the last one that may be."""
    return Q(worker="") | (expired() & Q(lost__lt=MAX_LOST - 1))


def used_up() -> Q:
    """So many workers were lost at it that it is not tried again."""
    return expired() & Q(lost__gte=MAX_LOST - 1)


def take(worker: str) -> dict[str, Any]:
    """What an UPDATE sets to give a lease to ``worker``."""
    count: Any = models.PositiveIntegerField()
    lost = Case(When(~Q(worker=""), then=F("lost") + Value(1)), default=F("lost"), output_field=count)
    return {"worker": worker[:200], "heartbeat_at": Now(), "lost": lost}


def shown(text: str, limit: int) -> str:
    """``text`` as a column can hold it: PostgreSQL has no U+0000."""
    return text[:limit].replace("\0", "\N{REPLACEMENT CHARACTER}")
