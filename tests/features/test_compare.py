"""Two features, two runs, two SAEs side by side."""

import json
import math
from typing import Any

import numpy as np
import pytest
from django.test import Client

from features import comparing, comparing_runs
from features.columns import columns_of
from features.models import Activity, Feature, Run
from features.plots.pairs import density_pairs
from features.store.ranked import Ranked, pack_ranked
from tests import factories
from tests.factories import DEAD, NAMED, World

SAE = "tiny-lm-l6"


def ranked(*pairs: tuple[int, float]) -> Ranked:
    return Ranked(np.array([i for i, _ in pairs]), np.array([v for _, v in pairs], np.float32))


def compared(client: Client, a: str, b: str) -> Any:
    answer = client.get("/compare/", {"a": a, "b": b})
    assert answer.status_code == 200
    return answer.context


def test_both_stand_side_by_side(world: World, client_in: Client) -> None:
    answer = client_in.get("/compare/", {"a": f"{SAE}/{NAMED}", "b": f"{SAE}/9"})
    a, b = answer.context["sides"]
    assert (a.feature.index, b.feature.index) == (NAMED, 9)
    assert a.run == b.run == world.run
    assert a.activity == world.run.activities.get(index=NAMED)
    ticks = [[tick.text for tick in side.chart.x_ticks] for side in (a, b)]
    assert ticks[0] == ticks[1]
    assert len(a.positive) == len(b.negative) == 10
    assert 1 <= len(a.examples) <= comparing.EXAMPLES
    page = answer.content.decode()
    assert "cities, by Ada" in page
    assert page.count('id="chart-title') == 2
    assert 'id="chart-title1"' in page


def test_a_bare_index_is_of_the_other_ones_sae(world: World, client_in: Client) -> None:
    assert [side.name for side in compared(client_in, f"{SAE}/3", "9")["sides"]] == [f"{SAE}/3", f"{SAE}/9"]


def test_the_cosine_is_what_the_list_of_neighbours_says_or_below_its_end(world: World, client_in: Client) -> None:
    Feature.objects.filter(index=9).update(neighbours=pack_ranked(ranked((10, 0.75), (11, 0.5)), ranked((12, 0.9))))
    Feature.objects.filter(index=10).update(neighbours=pack_ranked(ranked((20, 0.8)), ranked()))
    Feature.objects.filter(index=13).update(neighbours=pack_ranked(ranked((20, 0.25)), ranked()))
    for pair in ((9, 10), (10, 9)):
        measure = compared(client_in, *(f"{SAE}/{i}" for i in pair))["likeness"].cosine
        assert measure == comparing.Measure(0.75)
    assert compared(client_in, f"{SAE}/9", "13")["likeness"].cosine == comparing.Measure(0.25, below=True)
    assert "&lt; 0.250" in client_in.get("/compare/", {"a": f"{SAE}/9", "b": "13"}).content.decode()


def test_the_cosine_is_exact_where_the_vectors_are_kept(
    world: World, client_in: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {9: np.array([3, 4], np.float32), 10: np.array([4, 3], np.float32)}
    monkeypatch.setattr(comparing, "vector_of", lambda sae, index: rows[index])
    assert compared(client_in, f"{SAE}/9", "10")["likeness"].cosine.value == pytest.approx(0.96)


def test_what_fires_together_and_what_both_raise(world: World, client_in: Client) -> None:
    Activity.objects.filter(index=9).update(partners=pack_ranked(ranked((10, 0.5))))
    effects = [ranked((40, 2.0), (41, 1.5), (300, 1.0)), ranked((50, -2.0))]
    Feature.objects.filter(index=9).update(logits=pack_ranked(*effects))
    effects = [ranked((300, 3.0), (40, 1.0)), ranked((51, -2.0))]
    Feature.objects.filter(index=10).update(logits=pack_ranked(*effects))
    found = compared(client_in, f"{SAE}/9", "10")["likeness"]
    assert found.jaccard == comparing.Measure(0.5)
    assert found.raised == [chr(40 - 2), factories.TOKENS[300].decode()]
    assert found.lowered == []


def test_features_of_two_models_share_nothing_that_is_known(world: World, client_in: Client) -> None:
    other = factories.make_sae(factories.make_model("other-lm"), "other-sae")
    factories.make_features(other)
    found = compared(client_in, f"{SAE}/9", "other-sae/9")
    assert found["likeness"] == comparing.Likeness(None, None, None, None, None)
    assert (
        "they are of two models" in client_in.get("/compare/", {"a": f"{SAE}/9", "b": "other-sae/9"}).content.decode()
    )
    assert found["sides"][1].run is None


def test_a_dead_feature_has_no_chart(world: World, client_in: Client) -> None:
    a, _ = compared(client_in, f"{SAE}/{DEAD}", "9")["sides"]
    assert a.chart is None
    assert a.examples == []


@pytest.mark.parametrize(
    ("a", "b", "status", "said"),
    [
        ("nobody/1", f"{SAE}/1", 404, "There is no feature nobody/1 here."),
        (f"{SAE}/1", "99", 404, f"There is no feature {SAE}/99 here."),
        ("what is it?", f"{SAE}/1", 422, "names no feature"),
        ("<script>", f"{SAE}/1", 422, "names no feature"),
        ("", "7", 422, "names no feature"),
    ],
)
def test_what_cannot_be_compared_says_why_and_keeps_what_was_typed(
    world: World, client_in: Client, a: str, b: str, status: int, said: str
) -> None:
    answer = client_in.get("/compare/", {"a": a, "b": b})
    page = answer.content.decode()
    assert answer.status_code == status
    assert said in page
    assert f'value="{b}"' in page
    assert "<script>" not in page.split("<main", 1)[1]


def test_an_empty_form_explains_itself(world: World, client_in: Client) -> None:
    assert "Name two features" in client_in.get("/compare/").content.decode()
    half = client_in.get("/compare/", {"a": f"{SAE}/3"}).content.decode()
    assert f'value="{SAE}/3"' in half


def test_queries_of_two_features(world: World, client_in: Client, django_assert_max_num_queries: Any) -> None:
    client_in.get("/compare/", {"a": f"{SAE}/7", "b": "9"})
    with django_assert_max_num_queries(6):  # session, user, features, runs, activities, contexts
        client_in.get("/compare/", {"a": f"{SAE}/7", "b": "9"})


@pytest.fixture
def second(world: World) -> Run:
    """A run over other text, of which feature 9 is dead and 10 fires twice as often."""
    run = factories.make_run(
        world.sae, factories.make_corpus("other"), l0=9.6, settings=world.run.settings | {"seed": 3}
    )
    rows = []
    for row in Activity.objects.filter(run=world.run):
        row.run = run
        if row.index == 9:
            row.n_firing, row.density, row.max_activation = 0, 0.0, 0.0
        if row.index == 10:
            row.n_firing, row.density = 2 * (row.n_firing or 0), 2 * row.density
        if row.index == 11:
            row.max_activation *= 4
        rows.append(row)
    Activity.objects.bulk_create(rows)
    Run.objects.filter(pk=run.pk).update(n_tokens=world.run.n_tokens)
    run.refresh_from_db()
    return run


def test_two_runs_say_what_differs_and_what_changed(world: World, second: Run, client_in: Client) -> None:
    answer = client_in.get("/compare/runs/", {"a": world.run.pk, "b": second.pk})
    l0 = next(row for row in answer.context["figures"] if row.figure.column == "l0")
    assert (l0.a, l0.b, l0.difference) == (7.6, 9.6, "+2.0")
    names = {d.name: (d.a, d.b) for d in answer.context["differences"]}
    assert names["corpus"] == ("small-texts", "other")
    assert names["seed"] == (0, 3)
    assert "top" not in names
    (_, by_density), (_, by_maximum) = answer.context["changes"]
    assert [row.feature.index for row in by_density] == [9, 10]
    assert [row.feature.index for row in by_maximum] == [11]
    assert by_maximum[0].octaves == pytest.approx(2)
    before = Activity.objects.get(run=world.run, index=9)
    assert by_density[0].octaves == pytest.approx(math.log2(0.5 / ((before.n_firing or 0) + 0.5)))
    page = answer.content.decode()
    assert "dead" in page
    assert "\N{MINUS SIGN}" in page


def test_changes_are_those_of_the_rows(world: World, second: Run) -> None:
    a, b = columns_of(world.run), columns_of(second)
    found = comparing_runs.density_change(a, b, 100, 50)
    for i in range(24):
        want = math.log2((b.n_firing[i] + 0.5) / 51) - math.log2((a.n_firing[i] + 0.5) / 101)
        assert found[i] == pytest.approx(want)
    maxima = comparing_runs.maximum_change(a, b)
    assert math.isnan(maxima[9])
    assert maxima[10] == 0


def test_a_run_compared_with_itself_has_no_difference(world: World, client_in: Client) -> None:
    answer = client_in.get("/compare/runs/", {"a": world.run.pk, "b": world.run.pk})
    assert answer.context["differences"] == []
    assert {row.difference for row in answer.context["figures"]} == {"0"}
    assert "corpus, settings, code and packages are the same" in answer.content.decode()
    assert answer.content.decode().count("None changed.") == 2


def test_runs_of_two_saes_are_refused_with_another_way(world: World, client_in: Client) -> None:
    other = factories.make_sae(world.model, "other-sae")
    run = factories.make_run(other, world.corpus)
    answer = client_in.get("/compare/runs/", {"a": world.run.pk, "b": run.pk})
    assert answer.status_code == 422
    assert f"/compare/saes/?a={SAE}&amp;b=other-sae" in answer.content.decode()
    assert client_in.get("/compare/runs/densities.json", {"a": world.run.pk, "b": run.pk}).status_code == 404


def test_one_run_offers_those_of_its_sae(world: World, second: Run, client_in: Client) -> None:
    factories.make_run(factories.make_sae(world.model, "other-sae"), world.corpus)
    offered = client_in.get("/compare/runs/", {"a": world.run.pk}).context["runs"]
    assert set(offered) == {world.run, second}
    assert len(client_in.get("/compare/runs/").context["runs"]) == 3
    for wrong in ("x", "99999"):
        assert client_in.get("/compare/runs/", {"a": wrong}).status_code == 404


def test_the_plot_has_a_point_for_each_feature_that_fired_in_both(world: World, second: Run, client_in: Client) -> None:
    figure = json.loads(client_in.get("/compare/runs/densities.json", {"a": world.run.pk, "b": second.pk}).content)
    a, b = columns_of(world.run).density, columns_of(second).density
    assert figure == json.loads(json.dumps(density_pairs(a, b)))
    assert {trace["type"] for trace in figure["data"]} == {"scatter"}
    both = [int(i) for i in np.flatnonzero((a > 0) & (b > 0))]
    assert 9 not in both
    assert density_pairs(a, b)["data"][1]["customdata"]["dtype"] == "i4"
    assert density_pairs(np.zeros(3), np.zeros(3))["data"][0]["x"] == []


def test_queries_of_two_runs(world: World, second: Run, client_in: Client, django_assert_max_num_queries: Any) -> None:
    ask = {"a": world.run.pk, "b": second.pk}
    client_in.get("/compare/runs/", ask)
    with django_assert_max_num_queries(6):  # session, user, two runs, those to choose from, features that changed
        client_in.get("/compare/runs/", ask)


def test_two_saes_side_by_side(world: World, client_in: Client, django_assert_max_num_queries: Any) -> None:
    factories.make_run(factories.make_sae(world.model, "wide", d_sae=4096, k=16), factories.make_corpus("other"))
    with django_assert_max_num_queries(4):
        answer = client_in.get("/compare/saes/", {"a": SAE, "b": "wide"})
    page = answer.content.decode()
    assert {d.name: (d.a, d.b) for d in answer.context["card"]}["features"] == ("24", "4,096")
    assert "The runs read two corpora" in page
    assert client_in.get("/compare/saes/", {"a": "nobody"}).status_code == 404
    assert client_in.get("/compare/saes/", {"a": "a\0"}).status_code == 404
    factories.make_sae(world.model, "unread")
    assert "no run" in client_in.get("/compare/saes/", {"a": SAE, "b": "unread"}).content.decode()


@pytest.mark.parametrize("address", ["/compare/", "/compare/runs/", "/compare/runs/densities.json", "/compare/saes/"])
def test_nobody_compares_without_signing_in(world: World, anonymous: Client, address: str) -> None:
    assert anonymous.get(address)["Location"].startswith("/login/")
