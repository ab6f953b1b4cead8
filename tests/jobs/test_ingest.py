"""From plain arrays to rows: everything that was found is in the database, once, as pages and API read it."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from django.db.models import F

from features.evidence import examples_of, find_activity, logit_effects, relatives_of
from features.models import SAE, Activity, Context, Feature, Label, Run
from features.store.contexts import unpack_features, unpack_tokens
from features.store.examples import BANDS, NEAR_MISS, SILENT, unpack_examples
from features.store.histogram import unpack_histogram
from jobs.engine import examples as engine
from jobs.engine.statistics import FIRST_BIN
from jobs.ingest import write
from jobs.packing import Tables
from tests import factories
from tests.jobs.synthetic import PER_BAND, make_tables

pytestmark = pytest.mark.django_db
N = 30


@pytest.fixture
def sae(db: None) -> SAE:
    return factories.make_sae(factories.make_model(), d_sae=N)


@pytest.fixture
def tables() -> Tables:
    return make_tables(N, n_contexts=200)


def written(sae: SAE, tables: Tables, **changes: Any) -> Run:
    run = factories.make_run(sae, factories.make_corpus(f"corpus-{Run.objects.count()}"), **changes)
    write(run, tables, new_sae=not Feature.objects.filter(sae=sae).exists())
    return run


def test_the_bands_of_engine_and_database_are_the_same() -> None:
    assert (engine.NEAR, engine.SILENT, len(BANDS)) == (NEAR_MISS, SILENT, SILENT + 1)


def test_activities_hold_what_was_counted(sae: SAE, tables: Tables) -> None:
    run = written(sae, tables)
    found = tables.statistics
    activities = list(Activity.objects.filter(run=run).order_by("index"))
    assert [a.index for a in activities] == list(range(N))
    assert [a.feature_id for a in activities] == list(sae.features.order_by("index").values_list("pk", flat=True))
    assert [a.n_firing for a in activities] == found.n_firing.tolist()
    assert [a.n_contexts for a in activities] == found.n_contexts.tolist()
    assert [a.density for a in activities] == [n / found.n_tokens for n in found.n_firing.tolist()]
    assert [a.mean_activation for a in activities] == (found.totals / found.n_firing).tolist()
    for activity, counts in zip(activities, found.histograms, strict=True):
        histogram = unpack_histogram(bytes(activity.histogram))
        filled = np.flatnonzero(counts)
        assert histogram.counts.tolist() == counts[filled[0] : filled[-1] + 1].tolist()
        assert histogram.edges[0] == np.float32(2 ** ((FIRST_BIN + filled[0]) / 4))


def test_examples_hold_every_selected_row(sae: SAE, tables: Tables) -> None:
    run = written(sae, tables)
    rows, band = tables.selection.rows, tables.selection.band
    ends = np.cumsum(rows.length)
    row = 0
    for activity in Activity.objects.filter(run=run).order_by("index"):
        examples = list(unpack_examples(bytes(activity.examples)))
        for example in examples:
            tokens = slice(ends[row] - rows.length[row], ends[row])
            assert (activity.index, example.context) == (rows.feature[row], rows.context[row])
            assert example.band == band[row]
            assert example.positions.tolist() == rows.positions[tokens].tolist()
            assert np.array_equal(example.values, rows.values[tokens])
            assert example.peak == (rows.peak[row] if rows.length[row] else -1)
            row += 1
        assert activity.max_activation == max(e.max_value for e in examples if e.fires)
    assert row == len(rows)


def test_each_context_is_there_once_and_names_the_features_that_fire_in_it(sae: SAE, tables: Tables) -> None:
    run = written(sae, tables)
    rows, band = tables.selection.rows, tables.selection.band
    contexts = list(Context.objects.filter(run=run).order_by("number"))
    assert [c.number for c in contexts] == np.unique(rows.context).tolist()
    for context in contexts:
        given = tables.contexts[context.number]
        assert unpack_tokens(bytes(context.token_ids)).tolist() == given.token_ids.tolist()
        assert context.text == tables.decode(given.token_ids.tolist())
        assert (context.document_id, context.offset) == (given.document_id, given.offset)
        fires = (rows.context == context.number) & (band < NEAR_MISS)
        assert unpack_features(bytes(context.features)).tolist() == np.unique(rows.feature[fires]).tolist()


def test_a_feature_that_never_fired_has_a_row_without_examples(sae: SAE, tables: Tables) -> None:
    selection = tables.selection
    others = np.flatnonzero(selection.rows.feature != 3)
    kept = replace(selection, rows=selection.rows.take(others), band=selection.band[others])
    for array in (tables.statistics.n_firing, tables.statistics.totals, tables.statistics.histograms):
        array[3] = 0
    run = written(sae, replace(tables, selection=kept))
    activity = find_activity(run, 3)
    assert (activity.max_activation, activity.mean_activation, bytes(activity.examples)) == (0, 0, b"")
    assert len(examples_of(run, find_activity(run, 4)).firing) == sum(PER_BAND[:5])


def test_what_follows_from_the_weights_is_written_once(sae: SAE, tables: Tables) -> None:
    run = written(sae, tables)
    activity = find_activity(run, 5)
    lists = tables.weights.logits
    for got, ids, values in zip(logit_effects(activity.feature), lists.ids[5], lists.values[5], strict=True):
        assert list(got.pairs()) == list(zip(ids.tolist(), values.tolist(), strict=True))
    relatives = relatives_of(activity.feature, activity)
    for close, near in ((relatives.decoder, 0), (relatives.encoder, 1)):
        assert [r.feature.index for r in close] == tables.weights.neighbours.ids[5, near].tolist()
        assert [r.value for r in close] == tables.weights.neighbours.values[5, near].tolist()
    assert [r.feature.index for r in relatives.partners] == tables.partners.ids[5, 0].tolist()
    before = list(Feature.objects.order_by("pk").values_list("pk", "logits"))
    written(sae, tables)
    assert [(k, bytes(v)) for k, v in before] == [
        (k, bytes(v)) for k, v in Feature.objects.order_by("pk").values_list("pk", "logits")
    ]


def test_a_list_of_partners_ends_where_there_are_no_more(sae: SAE, tables: Tables) -> None:
    tables.partners.ids[2, 0, 3:] = -1
    tables.partners.ids[4] = -1
    run = written(sae, tables)
    found = [relatives_of(a.feature, a).partners for a in Activity.objects.filter(run=run).order_by("index")]
    assert [len(partners) for partners in found[:6]] == [8, 8, 3, 8, 0, 8]


@pytest.mark.parametrize("valid", [True, False])
def test_labels_of_a_later_run_are_shown_if_it_is_valid_and_no_person_wrote_one(
    sae: SAE, tables: Tables, valid: bool
) -> None:
    first = written(sae, tables)
    assert Label.objects.filter(run=first).count() == len(tables.labels)
    shown = Feature.objects.filter(label__run=first, label__feature=F("pk"))
    assert shown.count() == len(tables.labels)
    factories.make_label(sae.features.get(index=2), "mine", author=factories.make_user())
    second = written(sae, tables, valid=valid)
    labels = {f.index: f.label for f in sae.features.select_related("label") if f.label}
    assert sorted(labels) == [index for index, _ in tables.labels]
    assert labels.pop(2).text == "mine"
    assert {label.run_id for label in labels.values()} == {second.pk if valid else first.pk}
