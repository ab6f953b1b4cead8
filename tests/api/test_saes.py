"""SAEs and lists of features over REST."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from features.models import Activity, ApiKey, Collection, CollectionItem, Run, Star, Tag, Tagging
from tests import factories
from tests.factories import World


def get(client: Client, path: str, **query: Any) -> Any:
    response = client.get(f"/api/v1{path}", query)
    assert response.status_code == 200, response.content
    return response.json()


def newer_run(world: World) -> Run:
    run = factories.make_run(world.sae, world.corpus, valid=False, why_not_valid="L0 is far off", n_tokens=7)
    Run.objects.filter(pk=run.pk).update(created_at=world.run.created_at + timedelta(seconds=1))
    return run


def test_every_sae_with_its_newest_run(client_in: Client, world: World) -> None:
    bare = factories.make_sae(world.model, "a-bare-one", layer=7)
    run = newer_run(world)
    first, second = get(client_in, "/saes")
    assert first == {
        "slug": "tiny-lm-l6",
        "name": "tiny-lm-l6",
        "model": {"slug": "tiny-lm", "name": "tiny-lm"},
        "architecture": "topk",
        "hook": "resid_post",
        "layer": 6,
        "hook_out": None,
        "layer_out": None,
        "centred": False,
        "d_in": 64,
        "d_out": 64,
        "d_sae": 24,
        "k": 8,
        "digest": world.sae.digest,
        "card": world.sae.card,
        "run": {
            "id": run.pk,
            "n_tokens": 7,
            "explained_variance": 0.83,
            "l0": 7.6,
            "cosine": 0.93,
            "shrinkage": 0.94,
            "n_alive": run.n_alive,
            "n_dense": run.n_dense,
            "ce_recovered": None,
            "ce_delta": None,
            "kl_recovered": None,
            "n_ce_tokens": 0,
            "valid": False,
            "why_not_valid": "L0 is far off",
            "origin": "extraction",
            "created_at": first["run"]["created_at"],
            "router_layer": None,
        },
    }
    assert (second["slug"], second["run"]) == (bare.slug, None)
    assert get(client_in, "/saes/tiny-lm-l6") == first | {"training": world.sae.training}
    assert get(client_in, "/saes/a-bare-one") == second | {"training": bare.training}


def test_more_saes_cost_no_more_queries(client_in: Client, world: World) -> None:
    with CaptureQueriesContext(connection) as one:
        get(client_in, "/saes")
    for number in range(3):
        factories.make_run(factories.make_sae(world.model, f"sae-{number}", layer=number), world.corpus)
    with CaptureQueriesContext(connection) as four:
        assert len(get(client_in, "/saes")) == 4
    assert len(four) == len(one)


def test_features_page_by_page(client_in: Client, world: World) -> None:
    rows: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = get(client_in, "/saes/tiny-lm-l6/features", order="-max", limit=7, after=after)
        rows, after = rows + page["items"], page["next"]
    stored = {a.index: a for a in Activity.objects.filter(run=world.run).select_related("feature__label")}
    assert [row["index"] for row in rows] == sorted(stored, key=lambda i: (-stored[i].max_activation, i))
    for row in rows:
        activity = stored[row["index"]]
        label = activity.feature.label
        assert row == {
            "index": activity.index,
            "label": label.text if label else None,
            "density": activity.density,
            "max_activation": activity.max_activation,
            "mean_activation": activity.mean_activation,
            "n_contexts": activity.n_contexts,
        }


def test_features_are_filtered(client_in: Client, world: World) -> None:
    def found(**query: Any) -> list[int]:
        return [row["index"] for row in get(client_in, "/saes/tiny-lm-l6/features", **query)["items"]]

    assert found(max_density=0) == [factories.DEAD]
    assert factories.DENSE in found(min_density=0.05)
    assert found(q=" cities, by ") == [factories.NAMED]
    assert factories.NAMED in found(q="cit")
    assert found(q=b"\xff\xfe") == []
    assert found(ids="3, 17,9", order="-index") == [17, 9, 3]
    assert found(state="dead") == [factories.DEAD]
    assert found(label="person") == [factories.NAMED]
    assert found(label="rule", max_maximum=1e9) == [factories.HOSTILES, factories.TIED]
    assert len(found(order="-mean", min_maximum=2.5)) == Activity.objects.filter(max_activation__gte=2.5).count()


def test_what_a_person_keeps_is_found_by_their_key(client_in: Client, anonymous: Client, world: World) -> None:
    other = factories.make_user("grace")
    features = {feature.index: feature for feature in world.sae.features.all()}
    Star.objects.create(user=world.user, feature=features[5])
    Star.objects.create(user=other, feature=features[6])
    Tagging.objects.create(tag=Tag.objects.create(name="odd"), feature=features[7])
    collection = Collection.objects.create(slug="hers", name="hers", owner=other)
    CollectionItem.objects.create(collection=collection, feature=features[9], position=0)
    _, secret = ApiKey.objects.issue(other, "notebook")

    def found(client: Client, **query: Any) -> list[int]:
        answer = client.get("/api/v1/saes/tiny-lm-l6/features", query, headers={"X-API-Key": secret})
        return [row["index"] for row in answer.json()["items"]]

    assert found(anonymous, starred=True) == [6]
    assert found(anonymous, tag="odd") == [7]
    assert found(anonymous, collection="hers") == [9]
    mine = get(client_in, "/saes/tiny-lm-l6/features", starred=True)
    assert [row["index"] for row in mine["items"]] == [5]
    assert get(client_in, "/saes/tiny-lm-l6/features", collection="hers")["items"] == []


def test_a_run_is_chosen_among_those_of_its_sae(client_in: Client, world: World) -> None:
    newer = newer_run(world)
    path = "/saes/tiny-lm-l6/features"
    assert get(client_in, path)["items"] == []
    assert len(get(client_in, path, run=world.run.pk)["items"]) == 24
    other = factories.make_sae(world.model, "another", layer=7)
    factories.make_run(other, world.corpus)
    response = client_in.get("/api/v1/saes/another/features", {"run": newer.pk})
    assert (response.status_code, response.json()) == (404, {"detail": f"This SAE has no run {newer.pk}."})


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ({"order": "label"}, "order must be one of index, -index, density, -density, max, -max, mean, -mean."),
        ({"min_density": "2"}, "min_density must be a fraction of tokens, from 0 to 1."),
        ({"min_density": "nan"}, "min_density must be a fraction of tokens, from 0 to 1."),
        ({"min_density": "much"}, "min_density: Input should be a valid number, unable to parse string as a number."),
        ({"q": "a" * 10_000}, "q must not be longer than 200 characters."),
        ({"ids": "1,two"}, "ids must be numbers with commas between them: “two” is none."),
        ({"label": "cat"}, "label must be one of any, none, rule, model, person."),
        ({"q": "\0"}, "q must not hold the character NUL."),
        ({"after": "nonsense"}, "The cursor is not one that this list gave out; start again without it."),
        ({"limit": "0"}, "limit: Input should be greater than or equal to 1."),
        ({"limit": "501"}, "limit: Input should be less than or equal to 500."),
        ({"run": "last"}, "run: Input should be a valid integer, unable to parse string as an integer."),
    ],
)
def test_a_bad_parameter_is_one_sentence(client_in: Client, query: dict[str, str], sentence: str) -> None:
    response = client_in.get("/api/v1/saes/tiny-lm-l6/features", query)
    assert (response.status_code, response.json()) == (422, {"detail": sentence})


@pytest.mark.parametrize("path", ["", "/features", "/features/1"])
@pytest.mark.parametrize("slug", ["no-such-sae", "a%00b", "%F0%9F%A6%8A", "a" * 3000])
def test_an_unknown_sae(client_in: Client, slug: str, path: str) -> None:
    response = client_in.get(f"/api/v1/saes/{slug}{path}")
    assert (response.status_code, response.json()) == (404, {"detail": "There is no SAE of this name here."})


def test_an_sae_without_a_run(client_in: Client, world: World) -> None:
    factories.make_sae(world.model, "fresh", layer=7)
    for path in ("/features", "/features/0"):
        response = client_in.get(f"/api/v1/saes/fresh{path}")
        assert (response.status_code, response.json()) == (404, {"detail": "This SAE has no run yet."})
