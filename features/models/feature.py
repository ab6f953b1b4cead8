"""Feature: one direction of an SAE."""

from django.db import models
from django.urls import reverse

from features.models.sae import SAE


class Feature(models.Model):
    """(SAE, index): what follows from the weights alone, whatever the text.

    ``logits`` and ``neighbours`` are packed by features.store: the tokens whose logits rise and fall most, and the
    features with the nearest decoder and encoder directions. ``label`` points to the label that is shown. ``sae`` has
    no index of its own: the constraint's begins with it.
    """

    sae = models.ForeignKey(SAE, on_delete=models.CASCADE, related_name="features", db_index=False)
    index = models.PositiveIntegerField()
    decoder_norm = models.FloatField(null=True, help_text="null where the weights were never here")
    encoder_decoder_cosine = models.FloatField(null=True)
    logits = models.BinaryField()
    neighbours = models.BinaryField()
    label = models.ForeignKey("Label", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["sae", "index"], name="one_row_per_feature")]
        indexes = [
            models.Index(fields=["label"], name="feature_by_label", condition=models.Q(label__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.sae_id}/{self.index}"

    def get_absolute_url(self) -> str:
        return reverse("feature", args=[self.sae.slug, self.index])
