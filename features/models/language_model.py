"""LanguageModel and its Vocabulary."""

from django.db import models
from django.urls import reverse


class LanguageModel(models.Model):
    """A causal language model, named by where it came from and by the digests of its weights and tokenizer."""

    slug = models.SlugField(max_length=120, unique=True)
    name = models.CharField(max_length=200)
    source = models.CharField(max_length=500, help_text="hub id, folder, .gguf file or package:NAME")
    revision = models.CharField(max_length=80, blank=True)
    architecture = models.CharField(max_length=100)
    n_layers = models.PositiveIntegerField()
    d_model = models.PositiveIntegerField()
    vocab_size = models.PositiveIntegerField()
    weights_digest = models.CharField(max_length=64, blank=True, help_text="empty if the model was never here")
    tokenizer_digest = models.CharField(max_length=64, blank=True)
    hook_points = models.JSONField(
        default=list, blank=True, help_text="hook, width and layers of each, and the routers; empty if not known yet"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                fields=["weights_digest", "tokenizer_digest"],
                name="one_row_per_model_digest",
                condition=~models.Q(weights_digest=""),
            ),
            models.UniqueConstraint(
                fields=["source"], name="one_row_per_model_elsewhere", condition=models.Q(weights_digest="")
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("model", args=[self.slug])


class Vocabulary(models.Model):
    """The bytes of every token of a model, so that no page needs a tokenizer.

    ``raw`` is all tokens' bytes end to end; ``ends`` packs the uint32 offset at which each token ends;
    ``special_ids`` packs uint32 ids. ``joiner`` stands between tokens where the tokenizer drops the white space.
    One row, not one per token: a page names hundreds of tokens, and the row is kept in memory (features.vocabulary).
    """

    model = models.OneToOneField(LanguageModel, on_delete=models.CASCADE, related_name="vocabulary")
    raw = models.BinaryField()
    ends = models.BinaryField()
    special_ids = models.BinaryField()
    joiner = models.CharField(max_length=1, blank=True)

    def __str__(self) -> str:
        return f"vocabulary of {self.model_id}"
