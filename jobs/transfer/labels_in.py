"""Labels of an import: written once, and written anew beside the old one where what they say has changed."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from django.utils import timezone

from features import shown_labels
from features.models import SAE, Feature, Label, Run
from features.search.phrases import remember
from jobs import bulk
from jobs.transfer.counts import Counts
from jobs.transfer.places import moment
from jobs.transfer.spool import Spool
from jobs.transfer.tables import LABEL

CHUNK = 2_000
_SAID = ("text", "explanation", "source", "author_name", "rule", "precision", "n_held_out", "method", "explainer")


@dataclass
class _Chunk:
    """Rows to insert, old labels that they replace, and which label a feature is to show."""

    rows: list[tuple[Any, ...]] = field(default_factory=list)
    replaced: dict[int, int] = field(default_factory=dict)
    shown: dict[int, int] = field(default_factory=dict)


def write_labels(spool: Spool, sae: SAE, run: Run | None, counts: Counts) -> None:
    """A feature that shows no label shows the first new one, or the one that our own export says it showed.

    A label that has changed takes the place of the one before it where that was shown; what people here gave stays.
    """
    changed = False
    rows = spool.db.execute("SELECT idx, key, body FROM labels ORDER BY idx, number")
    while listed := list(islice(rows, CHUNK)):
        features = {f.index: f for f in _features(sae, {row[0] for row in listed})}
        there = _there(features)
        bodies = [(features[index], key, json.loads(body)) for index, key, body in listed if index in features]
        chunk = _sort(bodies, there, run, counts)
        changed = _write(chunk) or changed
    if changed:
        shown_labels.changed(sae.pk)


def _features(sae: SAE, indexes: set[int]) -> Iterator[Feature]:
    rows = Feature.objects.filter(sae=sae, index__range=(min(indexes), max(indexes))).only("index", "label_id")
    return (row for row in rows if row.index in indexes)


def _there(features: dict[int, Feature]) -> dict[tuple[int, str], Label]:
    """The newest label of each feature for each name elsewhere."""
    keys = [feature.pk for feature in features.values()]
    rows = Label.objects.filter(feature__in=keys, withdrawn_at=None).exclude(outside_id="").order_by("pk")
    return {(row.feature_id, row.outside_id): row for row in rows}


def _sort(
    bodies: list[tuple[Feature, str, dict[str, Any]]],
    there: dict[tuple[int, str], Label],
    run: Run | None,
    counts: Counts,
) -> _Chunk:
    chunk = _Chunk()
    fresh = []
    for feature, key, body in bodies:
        body["author_name"] = body.pop("author", "")
        old = there.get((feature.pk, key))
        if old is not None and all(getattr(old, name) == _value(body, name) for name in _SAID):
            counts.same += 1
            continue
        counts.add(new=old is None)
        fresh.append((feature, key, body, old))
    for pk, (feature, key, body, old) in zip(bulk.reserve(Label, len(fresh)), fresh, strict=True):
        chunk.rows.append(_row(pk, feature, key, body, run))
        if old is not None:
            chunk.replaced[old.pk] = pk
            if feature.label_id == old.pk:
                chunk.shown[feature.pk] = pk
        elif feature.label_id is None and (body.get("shown", True) and feature.pk not in chunk.shown):
            chunk.shown[feature.pk] = pk
    return chunk


def _row(pk: int, feature: Feature, key: str, body: dict[str, Any], run: Run | None) -> tuple[Any, ...]:
    said = {name: _value(body, name) for name in _SAID}
    by_rule = said["source"] == Label.Source.RULE
    fixed = {
        "id": pk,
        "feature": feature.pk,
        "run": run.pk if run is not None and by_rule else None,
        "outside_id": key,
        "created_at": moment(body.get("created_at")),
    }
    return tuple((said | fixed)[name] for name in LABEL)


def _value(body: dict[str, Any], name: str) -> Any:
    found = body.get(name)
    return "" if found is None and name not in {"precision", "n_held_out"} else found


def _write(chunk: _Chunk) -> bool:
    bulk.insert(Label, LABEL, chunk.rows)
    if chunk.replaced:
        Label.objects.filter(pk__in=list(chunk.replaced)).update(withdrawn_at=timezone.now())
    bulk.update(Feature, "label", chunk.shown.items())
    if chunk.rows:
        remember({row[LABEL.index("text")] for row in chunk.rows})
    return bool(chunk.rows)
