"""Activity: what a feature did in a run, and the contexts that show it."""

from typing import Self

from django.db import models

from features.models.feature import Feature
from features.models.run import Run


class ActivityQuerySet(models.QuerySet["Activity"]):
    def for_table(self) -> Self:
        """With feature and label, without the bytes of the feature that no table shows."""
        unseen = ("partners", "experts", "feature__logits", "feature__neighbours")
        return self.select_related("feature__label__author").defer(*unseen)


class Activity(models.Model):
    """(Run, Feature): numbers, and bytes that features.store packs.

    ``index`` repeats the feature's. The rows are many: their key is what names them, which spares a number of their own
    and its index, and tables are sorted and filtered by the run's Columns, which spares all others.
    """

    pk = models.CompositePrimaryKey("run_id", "index")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="activities", db_index=False)
    feature = models.ForeignKey(Feature, on_delete=models.CASCADE, related_name="activities")
    index = models.PositiveIntegerField()
    # Null in a run that was imported, where the files do not say it.
    n_firing = models.PositiveBigIntegerField(null=True, help_text="unmasked tokens on which it fires")
    n_contexts = models.PositiveBigIntegerField(null=True, help_text="contexts in which it fires at least once")
    density = models.FloatField(help_text="n_firing over the run's unmasked tokens")
    max_activation = models.FloatField()
    mean_activation = models.FloatField(null=True, help_text="over the tokens on which it fires")
    histogram = models.BinaryField()
    examples = models.BinaryField()
    partners = models.BinaryField(default=b"", help_text="features that fire on the same tokens; empty if not computed")
    experts = models.BinaryField(default=b"", help_text="experts chosen when it fires, by share and by lift; or empty")

    objects = ActivityQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "activities"

    def __str__(self) -> str:
        return f"{self.run_id}/{self.index}"


class Context(models.Model):
    """One window of tokens, stored once per run; ``features`` packs the indexes of the features that fire in it as
    one of their examples, so that a text finds them.
    """

    pk = models.CompositePrimaryKey("run_id", "number")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="contexts", db_index=False)
    number = models.PositiveBigIntegerField(help_text="its place in the corpus, from 0")
    document_id = models.CharField(max_length=200)
    document_source = models.CharField(max_length=200)
    offset = models.PositiveIntegerField(help_text="index of its first token in the document")
    token_ids = models.BinaryField()
    text = models.TextField()
    features = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.run_id}/{self.number}"
