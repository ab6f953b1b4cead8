"""Columns for the runs that were made before there were any, and no more need of the indexes that they replace.

A run's rows are read in a stream: what stays in memory is some forty bytes a feature.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from django.db import migrations

from features.store.columns import pack_columns

FIELDS = ("n_firing", "density", "max_activation", "mean_activation")
ROW = np.dtype([("index", "i8"), *((name, "f8") for name in FIELDS)])


def fill(apps: Any, schema_editor: Any) -> None:
    database = schema_editor.connection.alias
    rows = {name: apps.get_model("features", name).objects.using(database) for name in ("Run", "Columns")}
    for run, d_sae in list(rows["Run"].filter(columns=None).values_list("pk", "sae__d_sae")):
        rows["Columns"].create(run_id=run, packed=_packed(apps, database, run, d_sae))


def _packed(apps: Any, database: str, run: int, d_sae: int) -> bytes:
    activities = apps.get_model("features", "Activity").objects.using(database).filter(run=run)
    labels = apps.get_model("features", "Label").objects.using(database).filter(run=run, source="rule")
    table = np.fromiter(_stream(activities.values_list("index", *FIELDS)), ROW)
    columns, present, ruled = np.zeros(d_sae, ROW), np.zeros(d_sae, bool), np.zeros(d_sae, bool)
    columns[table["index"]] = table
    present[table["index"]] = True
    ruled[np.fromiter(_stream(labels.values_list("feature__index", flat=True)), np.int64)] = True
    n_firing, *floats = (columns[name] for name in FIELDS)
    return pack_columns(n_firing.astype(np.int64), *floats, ruled, present)


def _stream(rows: Any) -> Iterator[Any]:
    return rows.order_by().iterator(chunk_size=10_000)


class Migration(migrations.Migration):
    dependencies = [("features", "0006_search")]
    operations = [migrations.RunPython(fill, migrations.RunPython.noop)]
