"""Run: one extraction of one SAE over one corpus."""

from typing import Self

from django.conf import settings
from django.db import models
from django.urls import reverse

from features.models.corpus import Corpus
from features.models.sae import SAE

DENSE = 0.01  # a feature that fires on a larger share of tokens is called dense
VERY_DENSE = 0.1


class RunQuerySet(models.QuerySet["Run"]):
    def latest_first(self) -> Self:
        return self.select_related("sae", "sae__model", "corpus").order_by("-created_at", "-pk")


class Run(models.Model):
    """One extraction: SAE x Corpus x settings, with its provenance and quality.

    A row appears in the same transaction as everything that belongs to it, and is never changed after that. A run that
    was imported has no quality of its own, and the next import from the same place may change it: ``revision`` counts.
    """

    class Origin(models.TextChoices):
        EXTRACTION = "extraction", "extracted here"
        NEURONPEDIA = "neuronpedia", "imported from Neuronpedia's layout"
        SAEDASHBOARD = "saedashboard", "imported from SAEDashboard"

    origin = models.CharField(max_length=20, choices=Origin, default=Origin.EXTRACTION)
    revision = models.PositiveIntegerField(default=0)
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
    n_very_dense = models.PositiveIntegerField(default=0, help_text="features that fired on more than 10 % of tokens")
    n_pool_tokens = models.PositiveBigIntegerField(default=0, help_text="tokens of the sample for co-occurrence")

    # Null in a run that was imported.
    explained_variance = models.FloatField(null=True)
    fvu = models.FloatField(null=True)
    cosine = models.FloatField(null=True)
    shrinkage = models.FloatField(null=True)
    l0 = models.FloatField(null=True)

    # Cross entropy of the next token on a sample, in nats; null where the hook point cannot be replaced.
    n_ce_contexts = models.PositiveIntegerField(default=0, help_text="contexts of the sample")
    n_ce_tokens = models.PositiveBigIntegerField(default=0, help_text="predictions of the sample")
    ce_original = models.FloatField(null=True, help_text="of the model as it is")
    ce_reconstructed = models.FloatField(null=True, help_text="with the SAE's output in place of the activations")
    ce_ablated = models.FloatField(null=True, help_text="with zeros in place of the activations")
    ce_delta = models.FloatField(null=True, help_text="ce_reconstructed - ce_original")
    ce_delta_error = models.FloatField(null=True, help_text="standard error of ce_delta, by context")
    ce_recovered = models.FloatField(null=True, help_text="share of what zeros cost that the SAE's output saves")
    kl_reconstructed = models.FloatField(null=True, help_text="KL divergence from the model as it is")
    kl_ablated = models.FloatField(null=True, help_text="KL divergence from the model as it is")
    kl_recovered = models.FloatField(null=True, help_text="1 - kl_reconstructed / kl_ablated")

    valid = models.BooleanField(null=True, help_text="null: nobody has checked")
    why_not_valid = models.TextField(blank=True, help_text="the reasons, one sentence a line")

    experts = models.JSONField(
        null=True, help_text="router_layer, n_experts, per_token, and shares of all tokens by expert; null if dense"
    )
    seconds = models.FloatField(help_text="time spent in the pass over the corpus")
    work = models.JSONField(
        default=list,
        blank=True,
        help_text="what each shard took: number, tokens, seconds, worker, device, attempts, note",
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = RunQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["sae", "-created_at"])]

    def __str__(self) -> str:
        return f"run {self.pk}"

    def get_absolute_url(self) -> str:
        return reverse("run", args=[self.pk])

    @property
    def n_read(self) -> int:
        """All tokens that the model read, masked ones included."""
        read: int = self.n_tokens + self.n_special + self.n_sinks
        return read

    @property
    def tokens_per_second(self) -> float:
        return float(self.n_read / self.seconds) if self.seconds else 0.0

    @property
    def reasons(self) -> list[str]:
        """Why it is not valid: sentences."""
        return str(self.why_not_valid).splitlines()

    @property
    def n_dead(self) -> int:
        return self.sae.d_sae - self.n_alive
