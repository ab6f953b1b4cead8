"""Writes to trials: a text is asked for after its row is committed, with its id alone."""

import re
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from features.models import SAE
from jobs import queues
from jobs.models import Trial
from jobs.tasks import try_text

MAX_CHARACTERS = 4000
MAX_LIVE = 5  # of one person
KEPT = timedelta(days=30)
IMPORTED = (
    "This SAE was imported; its weights are not on this site, so no text can be run through it. "
    "Add the SAE's files and extract from it, then its features can be tried."
)
NO_QUEUE = (
    "The queue (Redis) cannot be reached, so no worker has been told of this text. It is kept, and runs once Redis "
    "is back: start Redis, or correct REDIS_URL."
)
_SURROGATE = re.compile("[\ud800-\udfff]")


class Refused(Exception):
    """``str(error)`` is one sentence for the person who asked, ``status`` the answer's."""

    def __init__(self, sentence: str, status: int = 422) -> None:
        super().__init__(sentence)
        self.status = status


class NoQueue(Exception):
    """``trial`` waits, but no worker could be told."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(NO_QUEUE)
        self.trial = trial


def ask(sae: SAE, index: int, text: str, owner: Any) -> Trial:
    """A trial of ``text`` on feature ``index``, sent to the workers once it is committed. Raises Refused and NoQueue.

    The same text that is on its way already is not asked for twice.
    """
    if not sae.digest:
        raise Refused(IMPORTED, 409)
    text = clean(text)
    mine = Trial.objects.live().filter(owner=owner)
    trial = mine.filter(sae=sae, index=index, text=text).first()
    if trial is None and mine.count() >= MAX_LIVE:
        raise Refused(f"{MAX_LIVE} of your texts are waiting already: wait for one, or take it back.", 429)
    with transaction.atomic():
        trial = trial or Trial.objects.create(sae=sae, index=index, text=text, owner=owner)
        _send(trial)
    return trial


def clean(text: str) -> str:
    """``text`` as it is kept: browsers send line breaks as CR LF. Raises Refused."""
    if "\0" in text:
        raise Refused("The text holds a NUL character, which no text has: take it out.")
    text = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text).replace("\r\n", "\n").replace("\r", "\n")
    if not text:
        raise Refused("There is no text: type some, then run it.")
    if len(text) > MAX_CHARACTERS:
        raise Refused(f"The text has {len(text):,} characters: give at most {MAX_CHARACTERS:,}.")
    return text


def send_again(trial: Trial) -> bool:
    """Put one that failed, or has lost its worker, back; one that waits is only sent once more. Raises NoQueue.

    False if there is nothing to send: it is done, or a worker is at it.
    """
    waits = Trial.objects.filter(pk=trial.pk, state=Trial.State.WAITING).exists()
    if not waits and not Trial.objects.send_again(trial.pk):
        return False
    with transaction.atomic():
        _send(trial)
    return True


def take_back(trial: Trial) -> None:
    """Whoever asked does not want it any more. A worker that is at it finds that it is gone."""
    trial.delete()


def unanswered() -> list[int]:
    """Those that wait for a worker, with those that have lost theirs."""
    Trial.objects.put_back()
    return list(Trial.objects.filter(state=Trial.State.WAITING).order_by("pk").values_list("pk", flat=True))


def clear() -> None:
    """Delete what was asked a while ago."""
    Trial.objects.filter(created_at__lt=timezone.now() - KEPT).delete()


def _send(trial: Trial) -> None:
    transaction.on_commit(lambda: _tell(trial))


def _tell(trial: Trial) -> None:
    try:
        queues.send(try_text, trial.pk)
    except queues.QueueDown as error:
        raise NoQueue(trial) from error
