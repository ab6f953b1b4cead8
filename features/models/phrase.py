"""Phrase: the text of a label, once, however many features bear it: what a search reads."""

from django.db import models


class Phrase(models.Model):
    """``vector`` packs the embedding of ``text``; empty while it is not worked out."""

    text = models.CharField(max_length=500, unique=True)
    vector = models.BinaryField(default=b"", db_default=b"")

    def __str__(self) -> str:
        return self.text
