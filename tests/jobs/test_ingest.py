"""From plain arrays to rows: everything that was found is in the database, once, as pages and API read it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from django.db.models import F

from features.columns import packed_from_rows
from features.evidence import examples_of, experts_of, find_activity, logit_effects, relatives_of
from features.models import SAE, Activity, Columns, Context, Feature, Label, LanguageModel, Run
from features.store.columns import unpack_columns
from features.store.contexts import unpack_features, unpack_tokens
from features.store.examples import BANDS, NEAR_MISS, SILENT, unpack_examples
from features.store.histogram import unpack_histogram
from features.store.ranked import unpack_ranked
from jobs.bulk import storable
from jobs.engine import examples as engine
from jobs.engine.extraction import ExtractionSettings
from jobs.engine.model import LoadedModel, load_model
from jobs.engine.points import hook_points, resolve
from jobs.engine.saes import load_sae
from jobs.engine.state import State
from jobs.engine.statistics import FIRST_BIN
from jobs.ingest import expert_lists, router_record, write
from jobs.packing import Lists, Tables
from jobs.registry import register_model, register_sae, training_record, unknown_points
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


def test_columns_hold_what_the_rows_hold(sae: SAE, tables: Tables) -> None:
    run = written(sae, tables)
    assert bytes(Columns.objects.get(run=run).packed) == packed_from_rows(run)
    assert unpack_columns(packed_from_rows(run)).ruled.sum() == len(tables.labels) > 0
    again = written(sae, tables)
    assert SAE.objects.get().label_epoch == sae.label_epoch + 2  # labels changed twice without a log
    assert Columns.objects.filter(run=again).exists()


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


def test_experts_are_kept_by_share_and_by_lift(sae: SAE, tables: Tables) -> None:
    ids = np.tile(np.array([[3, 9, -1]]), (N, 1))
    share, lift = (np.tile(np.array([row], np.float32), (N, 1)) for row in ([0.5, 0.25, 0], [8.0, 2.0, 0]))
    experts = Lists(np.stack([ids, ids], 1), np.stack([share, lift], 1))
    experts.ids[4] = -1
    run = written(sae, replace(tables, experts=experts))
    assert [(e.number, e.share, e.lift) for e in experts_of(find_activity(run, 5))] == [(3, 0.5, 8.0), (9, 0.25, 2.0)]
    assert experts_of(find_activity(run, 4)) == []
    dense = written(sae, tables)
    assert experts_of(find_activity(dense, 5)) == []
    assert bytes(find_activity(dense, 5).experts) == b""


def test_experts_are_counted_against_all_tokens() -> None:
    """Ten tokens, two of four experts each; feature 1 fires on the five that go to experts 0 and 2."""
    state = State.empty(2, 3, ExtractionSettings(), 1, n_experts=4)
    assert state.experts is not None
    chosen = torch.tensor([[0, 2]] * 5 + [[0, 1]] * 5)
    feature = torch.ones(5, dtype=torch.int64)
    state.experts.update(chosen, torch.arange(5), feature)
    state.sums.update(feature, torch.rand(5), feature[:1])
    assert router_record(state, 7) == {
        "router_layer": 7,
        "n_experts": 4,
        "per_token": 2,
        "shares": [1.0, 0.5, 0.5, 0.0],
    }
    lists = expert_lists(state)
    assert lists is not None
    shares, lifts = unpack_ranked(lists.pack(1), 2)
    assert (list(shares.pairs()), list(lifts.pairs())) == ([(2, 1.0), (0, 1.0)], [(2, 2.0), (0, 1.0)])
    assert [len(r.ids) for r in unpack_ranked(lists.pack(0), 2)] == [0, 0]
    dense = State.empty(2, 3, ExtractionSettings(), 1)
    assert (expert_lists(dense), router_record(dense, None)) == (None, None)


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


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder / "model"))


def test_a_model_has_its_hook_points_from_its_first_run_on(model: LoadedModel) -> None:
    points = unknown_points(model)
    assert points == hook_points(model)
    assert {"hook": "resid_post", "width": 24, "layers": [0, 1]} in points
    row = register_model(model, points)
    assert LanguageModel.objects.get().hook_points == points
    assert unknown_points(model) == []
    assert register_model(model, []) == row
    assert LanguageModel.objects.get().hook_points == points
    LanguageModel.objects.update(hook_points=[])  # as an earlier version wrote it
    assert register_model(model, unknown_points(model)) == row
    assert LanguageModel.objects.get().hook_points == points


def test_one_place_is_one_row_however_it_is_named(model: LoadedModel, tiny_folder: Path) -> None:
    sae, row = load_sae(tiny_folder / "sae"), register_model(model, [])

    def registered(hook: str, hook_out: str | None = None, **known: Any) -> SAE:
        out = resolve(model, hook_out, 1) if hook_out else None
        for name, value in ({"centred": False} | known).items():
            setattr(sae, name, value)
        return register_sae(sae, "a source that lasts", row, resolve(model, hook, 1), out)[0]

    first = registered("mlp_out")
    assert registered("mlp.output") == first
    assert (first.hook, first.layer, first.hook_out, first.layer_out, first.centred) == ("mlp_out", 1, "", None, False)
    across = registered("mlp.input", "mlp.output")
    assert (across.hook, across.hook_out, across.layer_out) == ("mlp_in", "mlp_out", 1)
    assert (across.name, across.slug) == ("model · L1 mlp_in → mlp_out · 64", "model-l1-mlp-in-to-mlp-out-64")
    others = [registered("resid_post"), across, registered("mlp_out", centred=True)]
    assert len({first.pk, *(other.pk for other in others)}) == SAE.objects.count() == 4
    assert {other.source for other in others} == {"a source that lasts"}


def test_an_sae_keeps_its_card_and_one_from_before_gets_it(model: LoadedModel, tiny_folder: Path) -> None:
    sae, row, point = load_sae(tiny_folder / "sae"), register_model(model, []), resolve(model, "resid_post", 1)
    first, new = register_sae(sae, "there", row, point, None)
    assert new
    assert SAE.objects.get().card == sae.card()
    SAE.objects.update(card={})
    assert register_sae(sae, "elsewhere", row, point, None) == (first, False)
    assert (SAE.objects.get().card, SAE.objects.get().source) == (sae.card(), "elsewhere")


def test_what_no_database_holds_is_taken_out_of_a_card(sae: SAE) -> None:
    card = {"a\0": ["\ud800b", {"c": float("nan")}], "d": None, "e": [1, 0.5, True], "f": "é😀"}
    sae.card = storable(card)
    sae.save()
    sae.refresh_from_db()
    kept = {"a\ufffd": ["\ufffdb", {"c": None}], "d": None, "e": [1, 0.5, True], "f": "é😀"}
    assert sae.card == kept


def test_a_training_record_lies_beside_the_weights(tmp_path: Path) -> None:
    assert training_record(tmp_path) == {}
    (tmp_path / "training.json").write_text('{"seed": 1}')
    (tmp_path / "weights.npz").touch()
    assert training_record(tmp_path) == training_record(tmp_path / "weights.npz") == {"seed": 1}
