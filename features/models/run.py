"""Run: one extraction of one SAE over one corpus."""

from typing import Any, Self

from django.conf import settings
from django.db import models
from django.urls import reverse

from features.models.corpus import Corpus
from features.models.sae import SAE

DENSE = 0.01  # a feature that fires on a larger share of tokens is called dense


class RunQuerySet(models.QuerySet["Run"]):
    def latest_first(self) -> Self:
        return self.select_related("sae", "sae__model", "corpus").order_by("-created_at", "-pk")


class Run(models.Model):
    """One extraction: SAE x Corpus x settings, with its provenance and quality.

    A row appears in the same transaction as everything that belongs to it, and is never changed after that.
    """

    sae = models.ForeignKey(SAE, on_delete=models.PROTECT, related_name="runs")
    corpus = models.ForeignKey(Corpus, on_delete=models.PROTECT, related_name="runs")
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    settings = models.JSONField()
    provenance = models.JSONField()
    seed = models.BigIntegerField(default=0)

    n_documents = models.PositiveBigIntegerField()
    n_contexts = models.PositiveBigIntegerField()
    n_tokens = models.PositiveBigIntegerField(help_text="unmasked tokens: the denominator of every density")
    n_special = models.PositiveBigIntegerField(help_text="special tokens, masked")
    n_sinks = models.PositiveBigIntegerField(help_text="sink tokens, masked: of high norm, or at a skipped position")
    n_alive = models.PositiveIntegerField(help_text="features that fired at least once")
    n_dense = models.PositiveIntegerField(help_text="features that fired on more than 1 % of tokens")

    explained_variance = models.FloatField()
    fvu = models.FloatField()
    cosine = models.FloatField()
    shrinkage = models.FloatField()
    l0 = models.FloatField()
    valid = models.BooleanField()
    why_not_valid = models.CharField(max_length=300, blank=True)

    seconds = models.FloatField(help_text="time spent in the pass over the corpus")
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["sae", "-created_at"])]

    def __str__(self) -> str:
        return f"run {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("run", args=[self.pk])

    @property
    def tokens_per_second(self) -> float:
        total: Any = self.n_tokens + self.n_special + self.n_sinks
        return float(total / self.seconds) if self.seconds else 0.0

    @property
    def n_dead(self) -> int:
        return self.sae.d_sae - self.n_alive
