"""A collection as a file, written while it is read: however long it is, a few hundred rows are in memory at a time."""

import csv
import json
from collections.abc import Iterator
from typing import Any

from django.db.models import Prefetch

from features.evidence import newest_runs
from features.models import Activity, Collection, CollectionItem, Run, Tagging

CHUNK = 500
COLUMNS = (
    "sae", "index", "label", "label_source", "label_author", "explanation", "tags", "note", "added_by", "added_at",
    "run", "density", "max_activation",
)  # fmt: skip


class _Echo:
    """What csv.writer writes to: it gives the line back."""

    def write(self, text: str) -> str:
        return text


def as_csv(collection: Collection) -> Iterator[str]:
    """One line a feature. No cell is a formula to a spreadsheet: see ``safe``."""
    writer = csv.writer(_Echo())
    yield writer.writerow(COLUMNS)
    for row in rows(collection):
        row["tags"] = ", ".join(row["tags"])
        yield writer.writerow([safe(row[column]) for column in COLUMNS])


def safe(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula begins with an apostrophe instead."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else value


def as_json(collection: Collection) -> Iterator[str]:
    """``{"collection": {...}, "features": [...]}``, with every text exactly as it is."""
    head = {
        "name": collection.name,
        "slug": collection.slug,
        "description": collection.description,
        "owner": collection.owner.get_username() if collection.owner else None,
        "changed_at": collection.changed_at.isoformat(),
    }
    yield f'{{"collection": {json.dumps(head)}, "features": ['
    for number, row in enumerate(rows(collection)):
        yield ("," if number else "") + "\n" + json.dumps(row)
    yield "\n]}\n"


def rows(collection: Collection) -> Iterator[dict[str, Any]]:
    """What a file says of each feature, in order; figures are of its SAE's newest run.

    One query, and three for every CHUNK.
    """
    runs = newest_runs()
    items = collection.items.select_related("feature__sae", "feature__label__author", "added_by")
    items = items.defer("feature__logits", "feature__neighbours").order_by("position", "pk")
    taggings = Prefetch("feature__taggings", Tagging.objects.select_related("tag").order_by("tag__name"))
    after = 0
    while chunk := list(items.filter(position__gt=after).prefetch_related(taggings)[:CHUNK]):
        figures = figures_of(chunk, runs)
        yield from (_row(item, runs.get(item.feature.sae_id), figures.get(item.feature_id)) for item in chunk)
        after = chunk[-1].position


def figures_of(items: list[CollectionItem], runs: dict[int, Run]) -> dict[int, Activity]:
    """What the features of ``items`` did in the newest run of their SAE, by key: one query."""
    newest = [run.pk for run in runs.values()]
    found = Activity.objects.filter(run__in=newest, feature__in=[item.feature_id for item in items])
    return {row.feature_id: row for row in found.only("feature_id", "density", "max_activation")}


def _row(item: CollectionItem, run: Run | None, figures: Activity | None) -> dict[str, Any]:
    label = item.feature.label
    return {
        "sae": item.feature.sae.slug,
        "index": item.feature.index,
        "label": label.text if label else "",
        "label_source": label.source if label else "",
        "label_author": (label.author.get_username() if label.author else label.author_name) if label else "",
        "explanation": label.explanation if label else "",
        "tags": [tagging.tag.name for tagging in item.feature.taggings.all()],
        "note": item.note,
        "added_by": item.added_by.get_username() if item.added_by else "",
        "added_at": item.added_at.isoformat(),
        "run": run.pk if run else None,
        "density": figures.density if figures else None,
        "max_activation": figures.max_activation if figures else None,
    }
