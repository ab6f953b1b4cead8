"""Hits as they are shown: the feature with its label, what it did in its SAE's newest run, and why it was found."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from django.db.models import F, FilteredRelation, Q

from features.models import Feature
from features.plots.bars import Sparkline, sparkline
from features.search.hybrid import Hit, Reason
from features.search.scope import Scope
from features.store.histogram import unpack_histogram


@dataclass(frozen=True)
class Line:
    """``density`` and ``maximum`` are None where no run read the feature."""

    feature: Feature
    reasons: list[Reason]
    density: float | None
    maximum: float | None
    sparkline: Sparkline


def lines(hits: Sequence[Hit], scope: Scope) -> list[Line]:
    """One query."""
    if not hits:
        return []
    by_sae: dict[int, list[int]] = {}
    for hit in hits:
        by_sae.setdefault(hit.sae, []).append(hit.index)
    found = (
        Feature.objects.filter(reduce(or_, (Q(sae=sae, index__in=indexes) for sae, indexes in by_sae.items())))
        .select_related("label__author")
        .annotate(
            now=FilteredRelation(
                "activities", condition=Q(activities__run__in=list(scope.runs), activities__index=F("index"))
            )
        )
        .annotate(density=F("now__density"), maximum=F("now__max_activation"), histogram=F("now__histogram"))
        .defer("logits", "neighbours")
    )
    places = {place.sae.pk: place for place in scope.every}
    features = {(feature.sae_id, feature.index): feature for feature in found}
    made = []
    for hit in hits:
        if feature := features.get((hit.sae, hit.index)):  # it may be gone since
            feature.sae = places[hit.sae].sae
            made.append(_line(feature, hit))
    return made


def _line(feature: Feature, hit: Hit) -> Line:
    read = vars(feature)
    drawn = sparkline(unpack_histogram(bytes(read["histogram"] or b"")))
    return Line(feature, hit.reasons, read["density"], read["maximum"], drawn)
