"""Smaller bytes, keys and indexes. What the first format holds is packed anew; nothing of it is lost.

Activity and Context get a key of two columns, which no table can be altered to: they are made anew and filled from the
first ones. What the first format did not have stays "not computed": encoder neighbours and partners come with a new run.
"""

from collections.abc import Callable, Iterator
from typing import Any

import django.db.models.deletion
import numpy as np
from django.db import migrations, models

from features.store.contexts import pack_features, pack_tokens
from features.store.examples import Examples, pack_examples
from features.store.histogram import pack_histogram
from features.store.ranked import Ranked, pack_ranked

BATCH = 500


def repack(apps: Any, schema_editor: Any) -> None:
    database = schema_editor.connection.alias
    features = apps.get_model("features", "Feature").objects.using(database)
    for rows in _batches(features, logits=_ranked(2), neighbours=_ranked(1)):
        for row in rows:
            features.filter(pk=row.pk).update(logits=row.logits, neighbours=row.neighbours)
    _move(apps, database, "Context", token_ids=_tokens, features=_features)
    _move(apps, database, "Activity", histogram=_histogram, examples=_examples)


def _move(apps: Any, database: str, name: str, **columns: Callable[[bytes], bytes]) -> None:
    new, first = apps.get_model("features", name), apps.get_model("features", f"First{name}")
    names = [field.attname for field in first._meta.concrete_fields if field.attname != "id"]
    for rows in _batches(first.objects.using(database), **columns):
        new.objects.using(database).bulk_create(new(**{n: getattr(row, n) for n in names}) for row in rows)


def _batches(found: Any, **columns: Callable[[bytes], bytes]) -> Iterator[list[Any]]:
    """All rows, some at a time, with their ``columns`` packed anew."""
    last = 0
    while rows := list(found.filter(pk__gt=last).order_by("pk")[:BATCH]):
        last = rows[-1].pk
        for row in rows:
            for column, again in columns.items():
                setattr(row, column, again(bytes(getattr(row, column))))
        yield rows


def _tokens(old: bytes) -> bytes:
    return pack_tokens(np.frombuffer(old, "<u4"))


def _features(old: bytes) -> bytes:
    return pack_features(np.frombuffer(old, "<u4"))


def _histogram(old: bytes) -> bytes:
    """int16 number of the first bin, uint64 counts."""
    return pack_histogram(int(np.frombuffer(old, "<i2", 1)[0]), np.frombuffer(old, "<u8", offset=2)) if old else b""


def _examples(old: bytes) -> bytes:
    """uint16 n; n each of uint32 context, uint8 band, uint16 peak, uint16 length; uint16 positions, float32 values."""
    n, at, columns = int(np.frombuffer(old, "<u2", 1)[0]), 2, []
    for dtype in ("<u4", "u1", "<u2", "<u2"):
        columns.append(np.frombuffer(old, dtype, n, at))
        at += columns[-1].nbytes
    contexts, bands, _, lengths = columns
    positions = np.frombuffer(old, "<u2", lengths.sum(), at)
    values = np.frombuffer(old, "<f4", offset=at + positions.nbytes)
    return pack_examples(Examples(contexts, bands, np.cumsum(lengths, dtype=np.int64), positions, values))


def _ranked(n_lists: int) -> Callable[[bytes], bytes]:
    """uint32 ids of all lists, then float32 values."""

    def again(old: bytes) -> bytes:
        ids = np.frombuffer(old, "<u4", len(old) // 8).reshape(n_lists, -1)
        values = np.frombuffer(old, "<f4", offset=len(old) // 2).reshape(n_lists, -1)
        return pack_ranked(*(Ranked(i, v) for i, v in zip(ids, values, strict=True)))

    return again


def _set_aside(name: str) -> list[Any]:
    """Rename a model and its table; content types stay those of the model that takes its place."""
    rename = migrations.SeparateDatabaseAndState(state_operations=[migrations.RenameModel(name, f"First{name}")])
    return [migrations.AlterModelTable(name, f"features_first{name.lower()}"), rename]


class Migration(migrations.Migration):
    dependencies = [("features", "0001_initial")]

    operations = [
        migrations.AlterField(
            "feature",
            "sae",
            models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="features", to="features.sae"
            ),
        ),
        # Names of indexes are one's own to a database, not to a table: the first tables give theirs up.
        migrations.RemoveIndex("activity", "activity_by_density"),
        migrations.RemoveIndex("activity", "activity_by_density_desc"),
        migrations.RemoveIndex("activity", "activity_by_max"),
        migrations.RemoveIndex("activity", "activity_by_max_desc"),
        migrations.AlterField(
            "activity",
            "feature",
            models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="+", to="features.feature"
            ),
        ),
        *_set_aside("Activity"),
        *_set_aside("Context"),
        # Columns stand in the order that leaves no gaps: those of eight bytes, then those of four, then bytes and text.
        migrations.CreateModel(
            "Activity",
            [
                (
                    "run",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="activities",
                        to="features.run",
                    ),
                ),
                (
                    "feature",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="activities", to="features.feature"
                    ),
                ),
                ("n_firing", models.PositiveBigIntegerField(help_text="unmasked tokens on which it fires")),
                ("n_contexts", models.PositiveBigIntegerField(help_text="contexts in which it fires at least once")),
                ("density", models.FloatField(help_text="n_firing over the run's unmasked tokens")),
                ("max_activation", models.FloatField()),
                ("mean_activation", models.FloatField(help_text="over the tokens on which it fires")),
                ("index", models.PositiveIntegerField()),
                ("histogram", models.BinaryField()),
                (
                    "partners",
                    models.BinaryField(
                        default=b"", help_text="features that fire on the same tokens; empty if not computed"
                    ),
                ),
                ("examples", models.BinaryField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "run_id", "index", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "activities",
                "indexes": [
                    models.Index("run", "density", "index", name="activity_by_density"),
                    models.Index("run", "max_activation", "index", name="activity_by_max"),
                ],
            },
        ),
        migrations.CreateModel(
            "Context",
            [
                (
                    "run",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="contexts",
                        to="features.run",
                    ),
                ),
                ("number", models.PositiveBigIntegerField(help_text="its place in the corpus, from 0")),
                ("offset", models.PositiveIntegerField(help_text="index of its first token in the document")),
                ("document_id", models.CharField(max_length=200)),
                ("document_source", models.CharField(max_length=200)),
                ("token_ids", models.BinaryField()),
                ("text", models.TextField()),
                ("features", models.BinaryField()),
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "run_id", "number", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
            ],
        ),
        migrations.RunPython(repack),
        migrations.DeleteModel("FirstActivity"),
        migrations.DeleteModel("FirstContext"),
    ]
