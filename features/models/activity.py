"""Activity: what a feature did in a run, and the contexts that show it."""

import json
from typing import Self

from django.db import connection, models
from django.db.models import Q
from django.db.models.expressions import RawSQL

from features.models.feature import Feature
from features.models.run import Run
from features.store.contexts import unpack_features


class ActivityQuerySet(models.QuerySet["Activity"]):
    def for_table(self) -> Self:
        """With feature and label, without the bytes of the feature that no table shows."""
        unseen = ("partners", "experts", "feature__logits", "feature__neighbours")
        return self.select_related("feature__label__author").defer(*unseen)

    def density_between(self, low: float | None, high: float | None) -> Self:
        found = self
        if low is not None:
            found = found.filter(density__gte=low)
        if high is not None:
            found = found.filter(density__lte=high)
        return found

    def matching(self, run: Run, text: str) -> Self:
        """Features whose label, number or example text holds ``text``."""
        cited = Context.objects.filter(run=run).indexes_mentioning(text)
        found = Q(feature__label__text__icontains=text) | Q(index__in=_as_rows(cited))
        if text.isdecimal() and len(text) < 10:
            found |= Q(index=int(text))
        return self.filter(found)


def _as_rows(numbers: list[int]) -> RawSQL:
    """Any number of numbers as one parameter: a common word is cited by more features than a query has places."""
    rows = {
        "sqlite": "SELECT value FROM json_each(%s)",
        "postgresql": "SELECT value::bigint FROM json_array_elements_text(%s::json)",
    }
    return RawSQL(rows[connection.vendor], [json.dumps(numbers)])  # noqa: S611 - the numbers are a parameter


class Activity(models.Model):
    """(Run, Feature): the numbers people sort and filter by, and bytes that features.store packs.

    ``index`` repeats the feature's, so that a table is read from one index of one table. Both ends of an order are
    read from the same index; features with one value are sorted by number where it is read backwards. The rows are
    many: their key is what names them, which spares a number of their own and its index.
    """

    pk = models.CompositePrimaryKey("run_id", "index")
    run = models.ForeignKey(Run, on_delete=models.CASCADE, related_name="activities", db_index=False)
    feature = models.ForeignKey(Feature, on_delete=models.CASCADE, related_name="activities")
    index = models.PositiveIntegerField()
    n_firing = models.PositiveBigIntegerField(help_text="unmasked tokens on which it fires")
    n_contexts = models.PositiveBigIntegerField(help_text="contexts in which it fires at least once")
    density = models.FloatField(help_text="n_firing over the run's unmasked tokens")
    max_activation = models.FloatField()
    mean_activation = models.FloatField(help_text="over the tokens on which it fires")
    histogram = models.BinaryField()
    examples = models.BinaryField()
    partners = models.BinaryField(default=b"", help_text="features that fire on the same tokens; empty if not computed")
    experts = models.BinaryField(default=b"", help_text="experts chosen when it fires, by share and by lift; or empty")

    objects = ActivityQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "activities"
        indexes = [
            models.Index("run", "density", "index", name="activity_by_density"),
            models.Index("run", "max_activation", "index", name="activity_by_max"),
        ]

    def __str__(self) -> str:
        return f"{self.run_id}/{self.index}"


class ContextQuerySet(models.QuerySet["Context"]):
    def indexes_mentioning(self, text: str) -> list[int]:
        """Indexes of the features whose examples contain ``text``, found from the contexts that hold it."""
        packed = self.filter(text__icontains=text).values_list("features", flat=True)
        return sorted({i for blob in packed for i in unpack_features(bytes(blob)).tolist()})


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

    objects = ContextQuerySet.as_manager()

    def __str__(self) -> str:
        return f"{self.run_id}/{self.number}"
