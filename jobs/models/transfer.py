"""Import: files of features that were made elsewhere, from their upload to what became of each line.

    RECEIVING -> WAITING        the last byte of the upload is here; a path on the server begins as WAITING
    WAITING -> READING          a worker claims it
    READING -> DONE | REFUSED   everything that could be read is here, or nothing could, and a sentence says why
    READING -> WAITING          its worker was lost: the next one goes on behind ``progress``
    DONE, REFUSED -> WAITING    a person wants it read again
"""

from django.conf import settings
from django.db import models

from features.models import Run
from jobs.models.leases import Leased


class Import(Leased):
    """``progress`` says which records are written; ``faults`` lists {file, line, why} of those that were refused."""

    class State(models.TextChoices):
        RECEIVING = "receiving", "receiving"
        WAITING = "waiting", "waiting"
        READING = "reading", "reading"
        DONE = "done", "done"
        REFUSED = "refused", "refused"

    name = models.CharField(max_length=200)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="imports")
    state = models.CharField(max_length=10, choices=State, default=State.RECEIVING)
    layout = models.CharField(max_length=20, blank=True, help_text="neuronpedia or saedashboard, once it is known")
    source = models.CharField(max_length=500, blank=True, help_text="a path on the server; empty for an upload")
    files = models.JSONField(default=list)
    run = models.ForeignKey(Run, null=True, on_delete=models.SET_NULL, related_name="imports")
    progress = models.JSONField(default=dict)
    n_read = models.PositiveBigIntegerField(default=0, help_text="records read")
    n_new = models.PositiveBigIntegerField(default=0)
    n_changed = models.PositiveBigIntegerField(default=0)
    n_same = models.PositiveBigIntegerField(default=0)
    n_refused = models.PositiveBigIntegerField(default=0)
    faults = models.JSONField(default=list, help_text="the first thousand")
    error = models.TextField(blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return self.name
