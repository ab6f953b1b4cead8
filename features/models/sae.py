"""SAE: a sparse autoencoder, known by the digest of its checkpoint."""

from typing import Self

from django.db import models
from django.db.models import Q
from django.urls import reverse

from features.models.language_model import LanguageModel


class SAEQuerySet(models.QuerySet["SAE"]):
    def for_listing(self) -> Self:
        """SAEs in the order in which a model is read: by layer, then by hook, with their model."""
        return self.select_related("model").order_by("model__name", "layer", "hook", "slug")


class SAE(models.Model):
    """A sparse autoencoder or transcoder on one hook point of one model."""

    slug = models.SlugField(max_length=120, unique=True)
    name = models.CharField(max_length=200)
    model = models.ForeignKey(LanguageModel, on_delete=models.PROTECT, related_name="saes")
    architecture = models.CharField(max_length=60)
    format = models.CharField(max_length=60)
    source = models.CharField(max_length=500, help_text="the checkpoint that was read")
    hook = models.CharField(max_length=60)
    layer = models.PositiveIntegerField()
    d_in = models.PositiveIntegerField()
    d_out = models.PositiveIntegerField()
    d_sae = models.PositiveIntegerField()
    k = models.PositiveIntegerField(null=True)
    digest = models.CharField(max_length=64)
    training = models.JSONField(default=dict, blank=True, help_text="the training record kept beside the weights")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SAEQuerySet.as_manager()

    class Meta:
        constraints = [
            # The same weights on another model, read at another layer or with another k, make other features.
            models.UniqueConstraint(fields=["digest", "model", "hook", "layer", "k"], name="one_row_per_sae"),
            models.UniqueConstraint(
                fields=["digest", "model", "hook", "layer"], condition=Q(k=None), name="one_row_per_sae_without_k"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("sae", args=[self.slug])

    @property
    def site(self) -> str:
        """Where it reads, as people say it: ``layer 9 · resid_post``."""
        return f"layer {self.layer} · {self.hook}"
