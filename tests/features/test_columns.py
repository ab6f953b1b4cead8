"""The columns of a run: kept by the process, and never those of another run."""

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from features.columns import columns_of, packed_from_rows
from features.kept import Kept
from features.models import Activity, Columns, Run
from features.store.columns import unpack_columns
from tests import factories
from tests.factories import World

FIELDS = ("n_firing", "density", "max_activation", "mean_activation")


def test_they_say_what_the_rows_say(world: World) -> None:
    columns = columns_of(world.run)
    rows = list(Activity.objects.filter(run=world.run).order_by("index"))
    for name in FIELDS:
        assert getattr(columns, name).tolist() == [getattr(row, name) for row in rows]
    assert columns.present.all()


def test_they_are_read_once(world: World) -> None:
    columns = columns_of(world.run)
    with CaptureQueriesContext(connection) as queries:
        assert columns_of(Run.objects.get(pk=world.run.pk)) is columns
    assert len(queries) == 1  # the run


def test_a_run_without_them_has_them_from_its_rows(world: World) -> None:
    kept = bytes(Columns.objects.get(run=world.run).packed)
    Columns.objects.all().delete()
    assert packed_from_rows(world.run)[:-3] == kept[:-3]  # the labels by rule, in the last bytes, came later
    columns = columns_of(world.run)
    assert np.flatnonzero(columns.ruled).tolist() == [factories.HOSTILES, factories.TIED]


def test_an_import_may_know_less(world: World) -> None:
    Columns.objects.all().delete()
    Activity.objects.filter(index__gte=20).delete()
    Activity.objects.filter(index=7).update(n_firing=None, mean_activation=None)
    columns = unpack_columns(packed_from_rows(world.run))
    assert (columns.n_firing[7], columns.mean_activation[7]) == (0, 0.0)
    assert columns.density[7] > 0
    assert np.flatnonzero(~columns.present).tolist() == [20, 21, 22, 23]


def test_an_import_that_changes_a_run_raises_its_revision(world: World) -> None:
    columns_of(world.run)
    Activity.objects.filter(index=7).update(density=0.9)
    packed = packed_from_rows(world.run)
    Columns.objects.update(packed=packed)
    Run.objects.update(revision=1)
    assert columns_of(Run.objects.get()).density[7] == 0.9
    assert columns_of(world.run).density[7] < 0.9


@pytest.mark.django_db
def test_a_run_that_is_still_written_is_not_kept() -> None:
    sae = factories.make_sae(factories.make_model())
    run = factories.make_run(sae, factories.make_corpus())
    assert not columns_of(run).present.any()
    factories.fill_run(run, factories.make_features(sae), 6)
    assert columns_of(run).present.all()


def test_what_was_used_last_is_kept() -> None:
    kept: Kept[str] = Kept(10)
    for key in "abc":
        kept.keep(key, key.upper(), 4)
        kept.find("a")
    assert [kept.find(key) for key in "abc"] == ["A", None, "C"]
    kept.keep("d", "D", 100)
    assert [kept.find(key) for key in "acd"] == [None, None, "D"]
