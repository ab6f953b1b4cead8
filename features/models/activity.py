"""Activity: what a feature did in a run, and the contexts that show it."""

from collections.abc import Iterable, Mapping
from functools import reduce
from operator import or_
from typing import Self

from django.db import models

from features.models.feature import Feature
from features.models.run import Run


class ActivityQuerySet(models.QuerySet["Activity"]):
    def for_table(self) -> Self:
        """With feature and label, without the bytes of the feature that no table shows."""
        unseen = ("partners", "experts", "feature__logits", "feature__neighbours")
        return self.select_related("feature__label__author").defer(*unseen)

    def of_features(self, features: Iterable[Feature], runs: Mapping[int, Run]) -> Self:
        """Those of ``features``, each in the run of its SAE, by the SAE's key; none of an SAE that has none."""
        indexes: dict[int, list[int]] = {}
        for feature in features:
            if run := runs.get(feature.sae_id):
                indexes.setdefault(run.pk, []).append(feature.index)
        named = (models.Q(run=run, index__among=some) for run, some in indexes.items())
        return self.filter(reduce(or_, named)) if indexes else self.none()


class Activity(models.Model):
    """(Run, Feature): numbers, and bytes that features.store packs.

    ``index`` repeats the feature's. The rows are many: their key is what names them, which spares a number of their own
    and its index, and tables are sorted and filtered by the run's Columns, which spares all others. They are looked up
    by run and index: ``feature`` has no index, and no constraint that would read all rows for each feature deleted.
    """

    pk = models.CompositePrimaryKey("run_id", "index")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="activities", db_index=False)
    feature = models.ForeignKey(
        Feature, on_delete=models.CASCADE, related_name="activities", db_index=False, db_constraint=False
    )
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
    one of their examples, so that a text finds them. Its text is what the model's vocabulary makes of ``token_ids``.
    """

    pk = models.CompositePrimaryKey("run_id", "number")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="contexts", db_index=False)
    number = models.PositiveBigIntegerField(help_text="its place in the corpus, from 0")
    document_id = models.CharField(max_length=200)
    document_source = models.CharField(max_length=200)
    offset = models.PositiveIntegerField(help_text="index of its first token in the document")
    token_ids = models.BinaryField()
    features = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.run_id}/{self.number}"
