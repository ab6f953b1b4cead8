"""Corpus: the documents that a run reads."""

from django.db import models


class Corpus(models.Model):
    """A file of documents, known by the sha256 of its bytes."""

    slug = models.SlugField(max_length=120, unique=True)
    name = models.CharField(max_length=200)
    source = models.CharField(max_length=500, help_text="the file that was read")
    digest = models.CharField(max_length=64, unique=True)
    n_documents = models.PositiveBigIntegerField()
    n_bytes = models.PositiveBigIntegerField()
    origin = models.TextField(blank=True)
    licence = models.TextField(blank=True)
    generator = models.JSONField(default=dict, blank=True, help_text="what made it, with its seed, if synthetic")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "corpora"

    def __str__(self) -> str:
        return self.name
