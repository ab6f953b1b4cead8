"""One list out of all ways: what comes first, and why each feature is there."""

from collections import Counter
from typing import Any

import pytest
from django.db import connection

from features.evidence import NotFound
from features.models import Activity, Context, Feature, Label
from features.search import filling, meaning
from features.search.hybrid import Hit, search
from features.search.lines import lines
from features.search.meaning import Codes
from features.search.query import Query
from features.search.scope import find_scope
from features.store.contexts import unpack_features
from tests import factories
from tests.factories import NAMED, TIED, TIED_TOO, World
from tests.features.search import brute_force


@pytest.fixture
def labelled(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    """Labels around rivers on two SAEs of two models; the second has no run."""
    monkeypatch.setattr(meaning, "_kept", Codes())
    features = list(Feature.objects.order_by("index"))
    factories.make_label(features[TIED_TOO], "banks of a river", author=world.user)
    factories.make_label(features[10], "driver", author=world.user)
    factories.make_label(features[11], "streams and brooks", author=world.user)
    Label.objects.filter(feature=features[12]).delete()
    label = factories.make_label(features[12], "water", author=world.user)
    Label.objects.filter(pk=label.pk).update(explanation="Any water: seas, lakes, and each river <b>named</b>.")
    other = factories.make_sae(factories.make_model("other-lm"), "other-sae", d_sae=4)
    factories.make_label(factories.make_features(other)[2], "River", author=world.user)
    filling.fill(connection)
    return world


def found(q: str, mode: str = "all", **where: str) -> list[Hit]:
    return search(Query.parse(q), find_scope(**where), mode).hits


def named(hits: list[Hit]) -> list[tuple[str, int]]:
    return [(line.feature.sae.slug, line.feature.index) for line in lines(hits, find_scope())]


def said(hit: Hit) -> list[tuple[str, str, list[str]]]:
    """Of each reason its kind, what was read, and what of it is marked."""
    return [(r.kind, "".join(p.text for p in r.pieces), [p.text for p in r.pieces if p.found]) for r in hit.reasons]


def test_labels_that_are_the_query_come_first_then_words_then_parts_of_words(labelled: World) -> None:
    hits = found("river", "label")
    assert named(hits[:2]) == [("other-sae", 2), ("tiny-lm-l6", TIED)]
    assert hits[0].exact and hits[1].exact and not hits[2].exact
    by_index = {hit.index: said(hit) for hit in hits if hit.sae == labelled.sae.pk}
    assert by_index[TIED] == [("exact label", "“ river”", ["river"])]
    assert by_index[TIED_TOO] == [("label", "banks of a river", ["river"])]
    assert by_index[10] == [("label", "driver", ["river"])]
    assert by_index[12][0][0] == "explanation"
    assert by_index[12][0][2] == ["river"]


def test_by_meaning_finds_what_shares_no_word(labelled: World) -> None:
    hits = found("small brooks", "meaning")
    assert ("tiny-lm-l6", 11) in named(hits)
    (reason,) = hits[0].reasons
    assert reason.kind == "meaning"
    assert reason.cosine is not None and reason.cosine >= meaning.LEAST_COSINE
    assert not found("brooks", "label", sae="other-sae")


def test_by_example_text_features_come_by_how_many_contexts_cite_them(labelled: World) -> None:
    texts = factories.texts_of(labelled.run)
    cites = Context.objects.filter(run=labelled.run).values_list("number", "features")
    holding = [packed for number, packed in cites if brute_force.mentions("river", texts[number])]
    cited = Counter(index for packed in holding for index in unpack_features(bytes(packed)).tolist())
    hits = found("river", "text")
    assert {hit.index: hit.reasons[0].n_contexts for hit in hits} == cited
    counts = [hit.reasons[0].n_contexts or 0 for hit in hits]
    assert counts == sorted(counts, reverse=True)
    for hit in hits[:5]:
        kind, text, marks = said(hit)[0]
        assert kind == "example text"
        assert marks and {mark.casefold() for mark in marks} == {"river"}
        assert len(text) < 260


def test_a_feature_found_in_several_ways_says_each(labelled: World) -> None:
    first = found("river")[0]
    assert [kind for kind, _, _ in said(first)] == ["exact label", "example text"]
    assert len({(hit.sae, hit.index) for hit in found("river")}) == len(found("river"))


def test_scope(labelled: World) -> None:
    assert {slug for slug, _ in named(found("river", sae="other-sae"))} == {"other-sae"}
    assert {slug for slug, _ in named(found("river", model="tiny-lm"))} == {"tiny-lm-l6"}
    for where in ({"sae": "nope"}, {"model": "nope"}):
        with pytest.raises(NotFound):
            find_scope(**where)


def test_lines_say_what_the_newest_run_says(labelled: World, django_assert_num_queries: Any) -> None:
    later = factories.make_run(labelled.sae, labelled.corpus)
    factories.fill_run(later, list(Feature.objects.filter(sae=labelled.sae).order_by("index")), 10, seed=5)
    scope, hits = find_scope(), found("river", "label")
    with django_assert_num_queries(1):
        shown = lines(hits, scope)
    densities = dict(Activity.objects.filter(run=later).values_list("index", "density"))
    assert [line.density for line in shown if line.feature.sae_id == labelled.sae.pk] == [
        densities[line.feature.index] for line in shown if line.feature.sae_id == labelled.sae.pk
    ]
    assert next(line for line in shown if line.feature.sae.slug == "other-sae").density is None


def test_three_queries_whatever_is_asked(labelled: World, django_assert_max_num_queries: Any) -> None:
    scope = find_scope()
    found("warm up")
    for q in ("river", "the", '"of the" x', "!=", "cities, by Ada", "AND OR NOT", "", '"'):
        with django_assert_max_num_queries(3):
            search(Query.parse(q), scope)


def test_nothing_asked_finds_nothing(labelled: World) -> None:
    assert found("") == []
    assert named(found("by Ada", "label")) == [("tiny-lm-l6", NAMED)]
