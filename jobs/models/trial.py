"""Trial: a text that somebody ran through one feature.

    WAITING -> RUNNING          a worker of the queue ``interactive`` claims it
    RUNNING -> DONE | FAILED    with what came out, or a sentence that says why nothing did
"""

from django.conf import settings
from django.db import models

from features.models import SAE


class Trial(models.Model):
    """``result`` packs the token ids and the feature's activation of each token (features.store)."""

    class State(models.TextChoices):
        WAITING = "waiting", "waiting"
        RUNNING = "running", "running"
        DONE = "done", "done"
        FAILED = "failed", "failed"

    sae = models.ForeignKey(SAE, on_delete=models.CASCADE, related_name="trials")
    index = models.PositiveIntegerField(help_text="the feature's")
    text = models.TextField()
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="trials")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    worker = models.CharField(max_length=200, blank=True)
    token_ids = models.BinaryField(default=b"")
    result = models.BinaryField(default=b"")
    error = models.TextField(blank=True)
    seconds = models.FloatField(null=True, help_text="from the claim to the answer")
    provenance = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"trial {self.pk}"
