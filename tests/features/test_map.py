"""The map of an SAE as its page asks for it: points, labels, matches and what was chosen. The page is in tests/jobs."""

import json
from typing import Any

import numpy as np
import pytest
from django.test import Client
from numpy.typing import NDArray

from features import layouts
from features.evidence import NotFound
from features.models import Collection, Feature, Layout
from features.store.layout import pack_clusters, pack_points
from tests import factories
from tests.factories import DEAD, NAMED, TIED, World

MAP = "/saes/tiny-lm-l6/map/"
CLUSTER = [0, 0, 0, -1, 1, 1, -1, 0] + [-1] * 16


def make_layout(world: World, **values: Any) -> Layout:
    xy = np.linspace(-1, 1, 48).reshape(24, 2)
    hostile = f"{factories.HOSTILE}{factories.OVERRIDE}"
    clusters = [
        {"number": 0, "name": hostile, "size": 4, "x": 0.0, "y": 0.0, "why": hostile},
        {"number": 1, "name": "waters", "size": 2, "x": 0.5, "y": 0.5, "why": "“river”: 2 of 2 features, by labels"},
    ]
    defaults = {
        "sae": world.sae,
        "method": "umap",
        "settings": {"sae": world.sae.slug, "n_neighbors": 15, "min_dist": 0.05, "metric": "cosine", "seed": 0},
        "provenance": {"kept": 0.25, "commit": "", "packages": {"umap-learn": "0.5.12"}},
        "xy": pack_points(xy),
        "cluster": pack_clusters(np.array(CLUSTER)),
        "clusters": clusters,
        "seconds": 1.5,
    }
    return Layout.objects.create(**(defaults | values))


@pytest.fixture
def layout(world: World) -> Layout:
    return make_layout(world)


def parts(content: bytes) -> tuple[NDArray[Any], ...]:
    n = len(content) // 8
    return tuple(np.frombuffer(content, dtype, n, i * 2 * n) for i, dtype in enumerate(("<u2", "<u2", "<i2", "<u2")))


def test_the_points_are_eight_bytes_each_with_the_densities_of_the_run(
    world: World, layout: Layout, client_in: Client
) -> None:
    answer = client_in.get(f"{MAP}data/?layout={layout.pk}&run={world.run.pk}&revision=0")
    assert answer["Content-Type"] == "application/octet-stream"
    x, y, cluster, density = parts(answer.content)
    np.testing.assert_allclose(x / 65_535 * 2 - 1, np.linspace(-1, 1, 48)[::2], atol=2e-5)
    np.testing.assert_allclose(y / 65_535 * 2 - 1, np.linspace(-1, 1, 48)[1::2], atol=2e-5)
    assert cluster.tolist() == CLUSTER
    truth = np.array(world.run.activities.order_by("index").values_list("density", flat=True))
    assert (density == 0).tolist() == (truth == 0).tolist()
    alive = truth > 0
    assert density[DEAD] == 0
    np.testing.assert_allclose(10 ** (-7 * (1 - density[alive] / 65_535)), truth[alive], rtol=2e-4)


def test_named_points_are_kept_for_good_and_others_asked_for_again(
    world: World, layout: Layout, client_in: Client
) -> None:
    named = f"{MAP}data/?layout={layout.pk}&run={world.run.pk}&revision=0"
    assert client_in.get(named)["Cache-Control"] == "private, max-age=31536000, immutable"
    for other in (f"{MAP}data/", f"{MAP}data/?layout={layout.pk}", named.replace("revision=0", "revision=3")):
        assert "no-cache" in client_in.get(other)["Cache-Control"]


def test_the_newest_layout_is_shown_and_others_by_their_number(world: World, layout: Layout, client_in: Client) -> None:
    newer = make_layout(world, cluster=pack_clusters(np.zeros(24, int)))
    assert parts(client_in.get(f"{MAP}data/").content)[2].tolist() == [0] * 24
    assert parts(client_in.get(f"{MAP}data/?layout={layout.pk}").content)[2].tolist() == CLUSTER
    assert client_in.get(f"{MAP}data/?layout={newer.pk + 1}").status_code == 404
    assert client_in.get(f"{MAP}data/?layout=x").status_code == 404


def test_without_a_run_nothing_has_a_density(world: World, client_in: Client) -> None:
    sae = factories.make_sae(world.model, "unread")
    factories.make_features(sae)
    make_layout(world, sae=sae)
    assert parts(client_in.get("/saes/unread/map/data/").content)[3].tolist() == [0] * 24
    page = client_in.post("/saes/unread/map/chosen/", {"features": "3,1"}).content.decode()
    assert page.index('href="/saes/unread/features/1/"') < page.index('href="/saes/unread/features/3/"')
    assert client_in.get("/saes/unread/map/matches/?q=1").status_code == 404


def test_label_kinds_follow_the_labels(world: World, client_in: Client) -> None:
    kinds = np.frombuffer(client_in.get(f"{MAP}kinds/").content, np.uint8)
    assert len(kinds) == 24
    assert kinds[[NAMED, TIED, DEAD]].tolist() == [3, 1, 0]


def test_the_label_under_the_pointer_is_text(world: World, client_in: Client) -> None:
    assert "cities, by Ada" in client_in.get(f"{MAP}label/?index={NAMED}").content.decode()
    hostile = client_in.get(f"{MAP}label/?index={factories.HOSTILES}").content.decode()
    assert factories.HOSTILE not in hostile
    assert "&lt;script&gt;" in hostile
    assert client_in.get(f"{MAP}label/?index=24").status_code == 404


def test_matches_are_those_of_the_table(world: World, client_in: Client) -> None:
    found = json.loads(client_in.get(f"{MAP}matches/?q=cities").content)
    assert found == {"indexes": [NAMED], "capped": False}
    too_long = client_in.get(f"{MAP}matches/?q={'a' * 300}")
    assert too_long.status_code == 422
    assert "at most 200 characters" in json.loads(too_long.content)["fault"]


def test_what_is_chosen_is_listed_by_density(world: World, client_in: Client) -> None:
    answer = client_in.post(f"{MAP}chosen/", {"features": "9,10,x,11,99,11", "title": "Inside the lasso"})
    found = answer.context["found"]
    densities = [line.activity.density for line in found.lines]
    assert sorted(found.indexes) == [9, 10, 11]
    assert densities == sorted(densities, reverse=True)
    page = answer.content.decode()
    assert "?ids=9,10,11" in page
    assert f'name="features" value="{",".join(map(str, found.indexes))}"' in page
    assert "Inside the lasso" in page


def test_a_selection_can_be_collected(world: World, client_in: Client) -> None:
    chosen = client_in.post(f"{MAP}chosen/", {"features": "9,10"}).context["found"]
    ask = {"do": "collect", "sae": world.sae.slug, "features": chosen.listed, "collection": "nice ones", "next": MAP}
    answer = client_in.post("/selection/", ask)
    assert answer.status_code == 302
    items = Collection.objects.get().items.values_list("feature__index", flat=True)
    assert sorted(items) == [9, 10]


def test_a_selection_has_an_end_and_says_so(world: World, client_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layouts, "MOST", 3)
    page = client_in.post(f"{MAP}chosen/", {"features": "1,2,3", "total": "20"}).content.decode()
    assert "A selection holds at most 3 features" in page
    monkeypatch.setattr(layouts, "MAX_ADDRESS", 3)
    page = client_in.post(f"{MAP}chosen/", {"features": "1,2,3"}).content.decode()
    assert "Too many for an address" in page
    assert "?ids=" not in page


def test_a_cluster_has_a_page_of_its_own_and_its_name_is_text(world: World, layout: Layout, client_in: Client) -> None:
    page = client_in.get(f"{MAP}chosen/?cluster=0&layout={layout.pk}")
    assert sorted(page.context["found"].indexes) == [0, 1, 2, 7]
    text = page.content.decode()
    assert factories.HOSTILE not in text
    assert factories.OVERRIDE not in text
    assert "<h1>" in text
    part = client_in.get(f"{MAP}chosen/?cluster=1", headers={"HX-Request": "true"}).content.decode()
    assert "<h1>" not in part
    assert "“river”: 2 of 2 features" in part
    for wrong in ("", "?cluster=2", "?cluster=-1", "?cluster=x", "?cluster=1&layout=9999"):
        assert client_in.get(f"{MAP}chosen/{wrong}").status_code == 404


def test_indexes_of_a_cluster(layout: Layout) -> None:
    assert layouts.indexes_of_cluster(layout, 1).tolist() == [4, 5]
    for number in (-1, 2):
        with pytest.raises(NotFound, match=f"no cluster {number}"):
            layouts.indexes_of_cluster(layout, number)


@pytest.mark.parametrize(
    ("address", "queries"),
    [("data/", 5), ("kinds/", 5), ("label/?index=3", 4), ("matches/?q=river", 7), ("chosen/?cluster=0", 6)],
)
def test_queries(
    world: World, layout: Layout, client_in: Client, address: str, queries: int, django_assert_max_num_queries: Any
) -> None:
    client_in.get(MAP + address)
    with django_assert_max_num_queries(queries):
        assert client_in.get(MAP + address).status_code == 200


@pytest.mark.parametrize("address", ["data/", "kinds/", "label/?index=1", "matches/?q=a", "chosen/?cluster=0"])
def test_nobody_sees_it_without_signing_in(layout: Layout, anonymous: Client, address: str) -> None:
    answer = anonymous.get(MAP + address)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/")


def test_a_feature_without_activity_in_the_run_is_left_out(world: World, client_in: Client) -> None:
    world.run.activities.filter(index=9).delete()
    assert Feature.objects.filter(sae=world.sae, index=9).exists()
    found = client_in.post(f"{MAP}chosen/", {"features": "9,10"}).context["found"]
    assert [line.feature.index for line in found.lines] == [10]
