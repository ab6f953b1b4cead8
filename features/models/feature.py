"""Feature: one direction of an SAE, and the labels it was given."""

from django.conf import settings
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
    decoder_norm = models.FloatField()
    encoder_decoder_cosine = models.FloatField()
    logits = models.BinaryField()
    neighbours = models.BinaryField()
    label = models.ForeignKey("Label", null=True, on_delete=models.SET_NULL, related_name="+")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["sae", "index"], name="one_row_per_feature")]

    def __str__(self) -> str:
        return f"{self.sae_id}/{self.index}"

    def get_absolute_url(self) -> str:
        return reverse("feature", args=[self.sae.slug, self.index])


class Label(models.Model):
    """A few words for a feature. It says who or what wrote it, and a rule's label says how precise the rule is."""

    class Source(models.TextChoices):
        RULE = "rule", "rule"
        PERSON = "person", "person"

    feature = models.ForeignKey(Feature, on_delete=models.CASCADE, related_name="labels")
    text = models.CharField(max_length=200)
    source = models.CharField(max_length=10, choices=Source)
    author = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    run = models.ForeignKey("Run", null=True, on_delete=models.CASCADE, related_name="labels")
    rule = models.CharField(max_length=20, blank=True)
    precision = models.FloatField(null=True, help_text="share of held-out examples on which the rule holds")
    n_held_out = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="a_rule_says_which_and_how_precise",
                condition=~models.Q(source="rule")
                | (models.Q(precision__isnull=False, n_held_out__isnull=False) & ~models.Q(rule="")),
            )
        ]

    def __str__(self) -> str:
        return self.text
