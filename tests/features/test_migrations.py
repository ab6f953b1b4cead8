"""A database that an earlier version wrote says the same after it was migrated."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.db import connections
from django.db.migrations.executor import MigrationExecutor

from features.store.columns import unpack_columns
from features.store.contexts import unpack_features, unpack_tokens
from features.store.examples import unpack_examples
from features.store.histogram import unpack_histogram
from features.store.ranked import unpack_ranked

DATABASE = "earlier"


@pytest.fixture
def database(django_db_blocker: Any, tmp_path: Path) -> Iterator[Any]:
    """A database of its own, empty: the tests' own is migrated already, and not all of it can be undone."""
    connections.databases[DATABASE] = connections.databases["default"] | {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": tmp_path / "earlier.sqlite3",
        "OPTIONS": {},
    }
    with django_db_blocker.unblock():
        yield connections[DATABASE]
        connections[DATABASE].close()
    del connections[DATABASE], connections.databases[DATABASE]


def migrated(database: Any, name: str) -> Any:
    """The models as they were after the migration ``name``."""
    MigrationExecutor(database).migrate([("features", name)])
    return MigrationExecutor(database).loader.project_state([("features", name)]).apps


def row(apps: Any, kind: str, **values: Any) -> Any:
    """A row with ``values``, and something in every other column that needs it."""
    model = apps.get_model("features", kind)
    for field in model._meta.concrete_fields:
        if not (field.null or field.primary_key or field.name in values):
            kind = field.get_internal_type()
            filler = {"JSONField": {}, "BinaryField": b"", "CharField": "x", "SlugField": "x", "TextField": "x"}
            values[field.name] = filler.get(kind, 1)
    return model.objects.using(DATABASE).create(**values)


def ids(*numbers: int) -> bytes:
    return np.array(numbers, "<u4").tobytes()


def floats(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


def first_format(apps: Any) -> None:
    """Two features of a run: one with two examples, and one that never fired."""
    model = row(apps, "LanguageModel")
    sae = row(apps, "SAE", model=model)
    run = row(apps, "Run", sae=sae, corpus=row(apps, "Corpus"))
    logits = ids(7, 70_000, 3, 4) + floats(2.5, 2, -3, -1)
    features = [
        row(apps, "Feature", sae=sae, index=i, logits=logits, neighbours=ids(1 - i) + floats(0.3)) for i in range(2)
    ]
    columns = (ids(70_001, 5), np.array([0, 3], "u1"), np.array([300, 9], "<u2"), np.array([2, 1], "<u2"))
    tokens = np.array([2, 300, 9], "<u2").tobytes() + floats(0.1, 1.7, 0.1)
    examples = np.array([2], "<u2").tobytes() + b"".join(bytes(c) for c in columns) + tokens
    histogram = np.array([-5], "<i2").tobytes() + np.array([2, 0, 2**40], "<u8").tobytes()
    row(apps, "Activity", run=run, feature=features[0], index=0, examples=examples, histogram=histogram, density=0.25)
    row(apps, "Activity", run=run, feature=features[1], index=1, examples=b"\0\0", histogram=b"", density=0)
    for number in (5, 70_001):
        row(apps, "Context", run=run, number=number, token_ids=ids(9, 0, 70_000), features=ids(0, 4), text=f"a{number}")


def test_earlier_rows_do_not_know_what_came_later(database: Any) -> None:
    apps = migrated(database, "0003_run_quality")
    sae = row(apps, "SAE", model=row(apps, "LanguageModel"), hook="resid_post", layer=4)
    run = row(apps, "Run", sae=sae, corpus=row(apps, "Corpus"))
    feature = row(apps, "Feature", sae=sae, index=3)
    row(apps, "Activity", run=run, feature=feature, index=3, partners=b"p", density=0.25)
    apps = migrated(database, "0004_any_sae")
    (sae,) = apps.get_model("features", "SAE").objects.using(DATABASE)
    assert (sae.hook, sae.layer, sae.hook_out, sae.layer_out, sae.centred) == ("resid_post", 4, "", None, False)
    assert (sae.card, sae.model.hook_points, sae.runs.get().experts) == ({}, [], None)
    (activity,) = apps.get_model("features", "Activity").objects.using(DATABASE)
    assert (activity.pk, activity.density) == ((run.pk, 3), 0.25)
    assert (bytes(activity.partners), bytes(activity.experts)) == (b"p", b"")


def test_the_first_format_is_packed_anew(database: Any) -> None:
    first_format(migrated(database, "0001_initial"))
    apps = migrated(database, "0002_packed")
    fired, silent = apps.get_model("features", "Activity").objects.using(DATABASE).order_by("index")
    examples = [
        (e.context, e.band, e.peak, e.positions.tolist(), e.values.tolist())
        for e in unpack_examples(bytes(fired.examples))
    ]
    tenth, most = (float(np.float32(v)) for v in (0.1, 1.7))
    assert examples == [(70_001, 0, 300, [2, 300], [tenth, most]), (5, 3, 9, [9], [tenth])]
    histogram = unpack_histogram(bytes(fired.histogram))
    assert histogram.counts.tolist() == [2, 0, 2**40]
    assert histogram.edges[0] == np.float32(2 ** (-5 / 4))
    assert (fired.density, bytes(fired.partners), fired.feature.index) == (0.25, b"", 0)
    assert (bytes(silent.examples), bytes(silent.histogram), silent.feature.index) == (b"", b"", 1)

    for feature in apps.get_model("features", "Feature").objects.using(DATABASE):
        top, bottom = (list(r.pairs()) for r in unpack_ranked(bytes(feature.logits), 2))
        assert (top, bottom) == ([(7, 2.5), (70_000, 2.0)], [(3, -3.0), (4, -1.0)])
        decoder, encoder = (r.ids.tolist() for r in unpack_ranked(bytes(feature.neighbours), 2))
        assert (decoder, encoder) == ([1 - feature.index], [])  # encoder neighbours were not computed then

    contexts = apps.get_model("features", "Context").objects.using(DATABASE).order_by("number")
    assert [(c.number, c.text) for c in contexts] == [(5, "a5"), (70_001, "a70001")]
    for context in contexts:
        assert unpack_tokens(bytes(context.token_ids)).tolist() == [9, 0, 70_000]
        assert unpack_features(bytes(context.features)).tolist() == [0, 4]


def test_runs_of_old_get_columns(database: Any) -> None:
    apps = migrated(database, "0003_run_quality")
    sae = row(apps, "SAE", model=row(apps, "LanguageModel"), hook="resid_post", layer=4, d_sae=4)
    run = row(apps, "Run", sae=sae, corpus=row(apps, "Corpus"))
    values = {3: (7, 0.1 + 0.2, 2.5, 1.25), 0: (2, 0.05, 3.0, 0.1)}  # an index has no row: it was never imported
    for index, (n_firing, density, highest, mean) in values.items():
        feature = row(apps, "Feature", sae=sae, index=index)
        counts = {"n_firing": n_firing, "density": density, "max_activation": highest, "mean_activation": mean}
        row(apps, "Activity", run=run, feature=feature, index=index, **counts)
        row(apps, "Label", feature=feature, run=run, source="rule" if index else "human", precision=1, n_held_out=1)
    apps = migrated(database, "0007_columns_of_old_runs")
    (kept,) = apps.get_model("features", "Columns").objects.using(DATABASE)
    columns = unpack_columns(bytes(kept.packed))
    assert (kept.run_id, columns.n_firing.tolist(), columns.density.tolist()) == (
        run.pk,
        [2, 0, 0, 7],
        [0.05, 0, 0, 0.1 + 0.2],
    )
    assert (columns.max_activation.tolist(), columns.mean_activation.tolist()) == ([3.0, 0, 0, 2.5], [0.1, 0, 0, 1.25])
    assert (columns.present.tolist(), columns.ruled.tolist()) == (
        [True, False, False, True],
        [False, False, False, True],
    )
    assert columns.order("density", descending=True).tolist()[:2] == [3, 0]
