"""Search by text in a run: what the indexes find is what reading everything finds."""

from typing import Any

import pytest
from django.db import connection
from hypothesis import assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from features import shown_labels
from features.models import ContextWords, Feature, Label, Phrase, Run
from features.search import contexts, filling, text
from features.search.contexts import index_run
from features.search.phrases import remember
from features.search.query import Query
from features.search.text import indexes_matching
from tests import factories
from tests.factories import NAMED, SPLIT, World
from tests.features.search import brute_force

LABELS = (
    "“River” / “driver”", "after “=”", "names of 東京", "snake_case in C++", "Straße, river bank", "100 %", "a",
    "O'Neil", "the river and the bank", "x" * 60,
)  # fmt: skip
ODD = (
    "np.array(东京) != 東京タワー",
    "Straße\n\tof the river, of the bank",
    'say "of the" AND NOT river*',
    "ÉTÉ été",
    "x" * 60,
)
TERMS = st.sampled_from(
    [
        "river", "riv", "iver", "the", "of", "bank", "of the", '"of the"', '"the river"', "np.array", "array", "東京",
        "京", "东", "タワー", "strasse", "STRASSE", "été", "AND", "NOT", "OR", "NEAR(", "river*", "-river", "a:b",
        "^river", "%", "'", '"', "snake_case", "case", "100", "7", "x" * 60, "x" * 41, "x" * 39, "Paris", "Pari",
        "alert(1)", SPLIT, "\\",
    ]
)  # fmt: skip


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept of what was found."""
    monkeypatch.setattr(text._kept, "find", lambda key: None)


@pytest.fixture
def odd_world(world: World) -> World:
    """Labels, explanations and contexts with whatever may trip a parser."""
    features = list(Feature.objects.order_by("index")[: len(LABELS)])
    for feature, label in zip(features, LABELS, strict=True):
        factories.make_label(feature, label, author=world.user)
    Label.objects.filter(feature__index=1).update(explanation="Fires on the banks of a river, not on money.")
    for number, odd in enumerate(ODD):
        factories.set_text(world.run, number, odd)
    return world


@pytest.mark.parametrize("indexed", [True, False])
def test_it_finds_what_reading_everything_finds(odd_world: World, indexed: bool) -> None:
    remember(LABELS)
    if indexed:
        filling.fill(connection)

    @hypothesis_settings(max_examples=60)
    @given(st.lists(TERMS, min_size=1, max_size=3))
    def check(terms: list[str]) -> None:
        q = " ".join(terms)
        query = Query.parse(q)
        assume(query.phrases and not query.literals and q.count('"') % 2 == 0)
        found = indexes_matching(odd_world.run, q)
        assert found.indexes.tolist() == brute_force.matching(odd_world.run, q)
        assert not found.capped

    check()


def test_signs_alone_are_text(odd_world: World) -> None:
    filling.fill(connection)
    remember(LABELS)
    cites = brute_force.matching(odd_world.run, "np.array")
    assert indexes_matching(odd_world.run, "!=").indexes.tolist() == cites
    assert indexes_matching(odd_world.run, "%").indexes.tolist() == [5]
    assert indexes_matching(odd_world.run, "_ *").indexes.tolist() == []
    assert indexes_matching(odd_world.run, "++").indexes.tolist() == [3]
    assert indexes_matching(odd_world.run, '"').indexes.tolist() == []


def test_a_label_that_is_no_longer_shown_is_not_found(world: World) -> None:
    remember(["cities, by Ada"])
    assert indexes_matching(world.run, "by Ada").indexes.tolist() == [NAMED]
    Feature.objects.update(label=None)
    shown_labels.changed(world.sae.pk)
    assert indexes_matching(Run.objects.get(), "by Ada").indexes.tolist() == []


def test_two_queries_whatever_is_asked(odd_world: World, django_assert_max_num_queries: Any) -> None:
    filling.fill(connection)
    indexes_matching(odd_world.run, "labels are kept from now on")
    for q in ("river", "7", "the", '"of the" bank', "!=", "nothing like it", ""):
        with django_assert_max_num_queries(2):
            indexes_matching(odd_world.run, q)


def test_deleting_a_run_or_labels_leaves_nothing_behind(odd_world: World) -> None:
    other = factories.make_run(odd_world.sae, odd_world.corpus)
    factories.fill_run(other, list(Feature.objects.order_by("index")), 10, seed=1)
    filling.fill(connection)
    expected = brute_force.matching(other, "river")
    odd_world.run.delete()
    assert set(ContextWords.objects.values_list("run", flat=True)) == {other.pk}
    assert indexes_matching(other, "river").indexes.tolist() == expected
    Label.objects.all().delete()
    Phrase.objects.filter(text__contains="river").delete()
    remember(["river mouths"])
    assert indexes_matching(other, "driver").indexes.tolist() == []


def test_words_of_an_earlier_revision_are_not_used(world: World) -> None:
    """An import that goes on changes contexts and raises the revision: until they are indexed again, all are read."""
    index_run(world.run.pk)
    factories.set_text(world.run, 3, "zebras, for once")
    assert indexes_matching(world.run, "zebras").indexes.tolist() == []
    Run.objects.filter(pk=world.run.pk).update(revision=1)
    run = Run.objects.get(pk=world.run.pk)
    expected = brute_force.matching(run, "zebras")
    assert expected
    assert indexes_matching(run, "zebras").indexes.tolist() == expected
    index_run(run.pk, run.revision)
    assert indexes_matching(run, "zebras").indexes.tolist() == expected


def test_contexts_are_indexed_in_parts(odd_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contexts, "PART", 7)
    index_run(odd_world.run.pk)
    assert ContextWords.objects.values("part").distinct().count() == 6
    for q in ("river", "the riv", '"of the"', "京"):
        assert indexes_matching(odd_world.run, q).indexes.tolist() == brute_force.matching(odd_world.run, q)


def test_it_says_when_not_everything_was_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    filling.fill(connection)
    everything = indexes_matching(world.run, "the")
    monkeypatch.setattr(text, "MOST_CONTEXTS", 3)
    part = indexes_matching(world.run, "the")
    assert not everything.capped
    assert part.capped
    assert set(part.indexes.tolist()) < set(everything.indexes.tolist())
    monkeypatch.undo()
    monkeypatch.setattr(text, "MOST_PHRASES", 1)
    assert indexes_matching(world.run, "by Ada").capped
