"""Layout: the features of an SAE as points on a map."""

from django.db import models

from features.models.sae import SAE


class Layout(models.Model):
    """Made from the decoder's directions by a job; a new one stands beside the old ones, and the newest is shown.

    ``xy`` packs float32 [d_sae, 2] and ``cluster`` int16 [d_sae], -1 for features of no cluster. ``clusters`` lists
    {number, name, size, x, y, why}.
    """

    sae = models.ForeignKey(SAE, on_delete=models.CASCADE, related_name="layouts")
    method = models.CharField(max_length=40)
    settings = models.JSONField()
    provenance = models.JSONField(default=dict)
    xy = models.BinaryField()
    cluster = models.BinaryField()
    clusters = models.JSONField()
    seconds = models.FloatField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.method} of {self.sae_id}"
