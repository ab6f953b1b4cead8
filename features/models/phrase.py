"""What a search reads: phrases, and which contexts of a run hold which word."""

from django.db import models

from features.models.run import Run


class Phrase(models.Model):
    """The text of a label, once, however many features bear it.

    ``words`` are its words as the database's full-text index gets them (features.search.words). ``code`` has the
    signs of its embedding (features.search.embedding), which is made anew when it is compared; it is empty for a text
    that has none, and where the database keeps signs itself (features.search.database).
    """

    text = models.CharField(max_length=500)
    words = models.TextField(db_default="")
    code = models.BinaryField(default=b"", db_default=b"")

    class Meta:
        # Not unique=True, which on PostgreSQL makes a second index for LIKE.
        constraints = [models.UniqueConstraint(fields=["text"], name="one_row_per_phrase")]

    def __str__(self) -> str:
        return self.text


class ContextWords(models.Model):
    """The words of a part of a run's contexts, from ``first`` up to ``last``, with the contexts of each
    (features.store.words). Parts are numbered in the order of their contexts.

    The stretches of a part leave no gap: a word is looked up in one row of each part, and where there is none, the run
    is not indexed. Rows hold for the run's ``revision`` that they name.
    """

    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="+", db_index=False)
    revision = models.PositiveIntegerField()
    part = models.PositiveIntegerField()
    first = models.BinaryField()
    last = models.BinaryField()
    packed = models.BinaryField()

    class Meta:
        verbose_name_plural = "words of contexts"
        indexes = [models.Index("run", "first", name="context_words_by_word")]

    def __str__(self) -> str:
        return f"{self.run_id}: {bytes(self.first)!r} to {bytes(self.last)!r}"
