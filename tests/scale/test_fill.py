"""The generator's rows say one thing: what one table has of a feature, the others have, too."""

from pathlib import Path

import numpy as np
import pytest
from django.db import connection

from features.columns import columns_of
from features.models import SAE, Activity, Columns, Context, ContextWords, Feature, Label, Layout, Phrase, Run
from features.store.contexts import unpack_features, unpack_tokens
from features.store.examples import SILENT, pack_examples, unpack_examples
from features.store.histogram import unpack_histogram
from features.store.ranked import unpack_ranked
from tests.factories import texts_of
from tests.scale import neuronpedia
from tests.scale.fill import WIDTHS, Plan, fill, widths
from tests.scale.texts import make_texts
from tests.scale.vocabulary import SIZE, vocabulary

N = 600


def _filled() -> list[SAE]:
    return fill(Plan(N, templates=(4, 2)), vocabulary(Path("none")), lambda what: None)


@pytest.mark.django_db
def test_what_one_table_has_of_a_feature_the_others_have_too():
    """One test, as filling a database takes longer than looking at it."""
    saes = _filled()
    _all_features_of_all_widths(saes)
    _numbers_histogram_and_examples_agree(saes)
    _contexts_cite_the_features_that_show_them(saes)
    _labels_are_shown_searched_and_counted(saes)
    _weights_have_their_lists(saes)


def _all_features_of_all_widths(saes: list[SAE]) -> None:
    assert widths(1_000_000) == list(WIDTHS)
    assert [sae.d_sae for sae in saes] == widths(N)
    assert Feature.objects.count() == Activity.objects.count() == sum(widths(N)) == N
    assert Run.objects.count() == Columns.objects.count() == Layout.objects.count() == 5
    assert set(ContextWords.objects.values_list("run", flat=True)) == set(Run.objects.values_list("pk", flat=True))


def _numbers_histogram_and_examples_agree(saes: list[SAE]) -> None:
    run = Run.objects.get(sae=saes[0])
    rows = list(Activity.objects.filter(run=run))
    for row in rows:
        assert row.n_firing is not None
        assert row.n_contexts is not None
        assert row.mean_activation is not None
        counts, examples = unpack_histogram(bytes(row.histogram)), unpack_examples(bytes(row.examples))
        assert int(counts.counts.sum()) == row.n_firing == round(row.density * run.n_tokens)
        if not row.n_firing:
            assert (len(examples), row.max_activation) == (0, 0.0)
            continue
        assert counts.edges[-2] <= row.max_activation < counts.edges[-1]
        assert 0 < row.mean_activation <= row.max_activation
        shown = list(examples)
        assert shown[0].max_value == row.max_activation == max(e.max_value for e in shown if e.band < SILENT)
        assert len({e.context for e in shown}) == len(shown)
        assert sum(e.fires for e in shown) <= row.n_contexts <= min(row.n_firing, run.n_contexts)
        assert all(0 < p < 128 for p in examples.positions)
        assert abs(len(pack_examples(examples)) - len(row.examples)) < 10
    assert 0.02 < np.mean([row.n_firing == 0 for row in rows]) < 0.2
    assert len({bytes(row.examples) for row in rows if row.n_firing}) == run.n_alive


def _contexts_cite_the_features_that_show_them(saes: list[SAE]) -> None:
    run = Run.objects.select_related("sae__model").get(sae=saes[0])
    cited: dict[int, set[int]] = {}
    for row in Activity.objects.filter(run=run):
        for example in unpack_examples(bytes(row.examples)):
            if example.fires:
                cited.setdefault(example.context, set()).add(row.index)
    contexts = list(Context.objects.filter(run=run))
    assert len(contexts) == run.n_contexts
    for context in contexts:
        assert set(unpack_features(bytes(context.features)).tolist()) == cited.get(context.number, set())
        ids = unpack_tokens(bytes(context.token_ids))
        assert len(ids) == 128
    assert all(len(text.split()) > 60 for text in texts_of(run).values())


def _labels_are_shown_searched_and_counted(saes: list[SAE]) -> None:
    alive = Activity.objects.filter(density__gt=0).count()
    rules = Label.objects.filter(source="rule")
    written = Label.objects.exclude(source="rule")
    assert 0.5 < rules.count() / alive < 0.8
    assert written.count() == len(set(written.values_list("text", flat=True))) == sum(w // 10 for w in widths(N))
    assert set(Label.objects.values_list("text", flat=True)) == set(Phrase.objects.values_list("text", flat=True))
    for label in written.select_related("feature"):
        assert label.feature.label_id == label.pk
    shown = Feature.objects.filter(sae=saes[0], label__run__sae=saes[0]).values_list("index", flat=True)
    ruled = np.flatnonzero(columns_of(Run.objects.get(sae=saes[0])).ruled)
    assert set(shown) <= set(ruled.tolist())


def _weights_have_their_lists(saes: list[SAE]) -> None:
    for feature in Feature.objects.filter(sae=saes[1]):
        up, down = unpack_ranked(bytes(feature.logits), 2)
        assert (len(up.ids), len(down.ids)) == (10, 10)
        assert up.values[0] == max(up.values) > 0 > max(down.values)
        assert all(i < SIZE for i in [*up.ids, *down.ids])
        assert all(i < saes[1].d_sae for near in unpack_ranked(bytes(feature.neighbours), 2) for i in near.ids)


@pytest.mark.postgresql
@pytest.mark.django_db
@pytest.mark.skipif(connection.vendor != "postgresql", reason="its layout is PostgreSQL's")
def test_neuronpedias_layout_holds_the_same():
    saes = _filled()
    run = Run.objects.select_related("sae__model", "corpus").get(sae=saes[0])
    neuronpedia.fill(run)
    row = Activity.objects.filter(run=run, density__gt=0).first()
    assert row is not None
    examples = {example.context: example for example in unpack_examples(bytes(row.examples))}
    with connection.cursor() as cursor:
        where = f'FROM {neuronpedia.SCHEMA}."Activation" WHERE layer = %s AND "index" = %s'
        key = [neuronpedia.source_of(run)[1], str(row.index)]
        cursor.execute(f'SELECT "dataIndex", tokens, "values" {where}', key)
        found = cursor.fetchall()
    texts = texts_of(run)
    assert {int(number) for number, _, _ in found} == set(examples)
    for number, tokens, values in found:
        assert "".join(tokens) == texts[int(number)]
        assert values == examples[int(number)].dense(128).tolist()


def test_the_first_contexts_are_the_same_however_many_there_are():
    words = vocabulary(Path("none"))
    few, many = make_texts(words, 10, seed=3), make_texts(words, 64, seed=3)
    assert few.packed == many.packed[:10]
    assert few.packed != make_texts(words, 10, seed=4).packed
