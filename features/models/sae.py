"""SAE: a sparse autoencoder, known by the digest of its checkpoint."""

from typing import Self

from django.db import models
from django.db.models import Value
from django.db.models.functions import Coalesce
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
    hook = models.CharField(max_length=200, help_text="where it reads")
    layer = models.PositiveIntegerField()
    hook_out = models.CharField(max_length=200, blank=True, help_text="where a transcoder's output belongs, else empty")
    layer_out = models.PositiveIntegerField(null=True, help_text="null unless a transcoder")
    centred = models.BooleanField(default=False, help_text="the mean over d_in is taken off its input first")
    d_in = models.PositiveIntegerField()
    d_out = models.PositiveIntegerField()
    d_sae = models.PositiveIntegerField()
    k = models.PositiveIntegerField(null=True)
    digest = models.CharField(max_length=64, blank=True, help_text="empty if its weights were never here")
    card = models.JSONField(default=dict, blank=True, help_text="what its files say, as the loader understood them")
    training = models.JSONField(default=dict, blank=True, help_text="the training record kept beside the weights")
    label_epoch = models.PositiveIntegerField(
        default=0, help_text="raised when labels of many features change at once, without a LabelChange each"
    )
    last_label_change = models.PositiveBigIntegerField(
        default=0, db_default=0, help_text="key of the newest LabelChange of its features"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SAEQuerySet.as_manager()

    class Meta:
        constraints = [
            # The same weights on another model, read at another point or with another k, make other features. To a
            # database two nulls differ, so zero stands for null: no k is zero, and no hook_out goes with no layer_out.
            models.UniqueConstraint(
                "digest",
                "model",
                "hook",
                "layer",
                Coalesce("k", Value(0)),
                "hook_out",
                Coalesce("layer_out", Value(0)),
                "centred",
                name="one_row_per_sae",
                condition=~models.Q(digest=""),
            ),
            models.UniqueConstraint(
                fields=["model", "source"], name="one_row_per_sae_elsewhere", condition=models.Q(digest="")
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("sae", args=[self.slug])

    @property
    def is_transcoder(self) -> bool:
        return bool(self.hook_out)

    @property
    def hooks(self) -> str:
        """``resid_post``; of a transcoder ``mlp_in → mlp_out``, with the layer it writes to where that is another."""
        if not self.is_transcoder:
            return self.hook
        elsewhere = "" if self.layer_out == self.layer else f"layer {self.layer_out} · "
        return f"{self.hook} → {elsewhere}{self.hook_out}"

    @property
    def site(self) -> str:
        """Where it reads, as people say it: ``layer 9 · resid_post``."""
        return f"layer {self.layer} · {self.hooks}"
