"""Models over REST."""

from typing import Any

import pytest
from django.test import Client

from features.models import LanguageModel
from tests import factories
from tests.factories import World


def get(client: Client, path: str) -> Any:
    response = client.get(f"/api/v1{path}")
    assert response.status_code == 200, response.content
    return response.json()


def test_every_model_with_the_number_of_its_saes(client_in: Client, world: World) -> None:
    factories.make_sae(world.model, "another", layer=2)
    factories.make_model("a-bare-one")
    bare, first = get(client_in, "/models")
    assert (bare["slug"], bare["n_saes"]) == ("a-bare-one", 0)
    assert first == {
        "slug": "tiny-lm",
        "name": "tiny-lm",
        "architecture": "TinyForCausalLM",
        "n_layers": 12,
        "d_model": 64,
        "vocab_size": world.model.vocab_size,
        "source": "models/tiny-lm",
        "revision": "",
        "weights_digest": world.model.weights_digest,
        "tokenizer_digest": world.model.tokenizer_digest,
        "n_saes": 2,
    }


def test_one_model_has_its_hook_points_and_its_saes(client_in: Client, world: World) -> None:
    factories.make_sae(world.model, "across", hook="mlp_in", hook_out="mlp_out", layer=1, layer_out=3, centred=True)
    factories.make_sae(factories.make_model("other"), "elsewhere")
    got = get(client_in, "/models/tiny-lm")
    (summary,) = (model for model in get(client_in, "/models") if model["slug"] == "tiny-lm")
    assert {name: got[name] for name in summary} == summary
    assert got["hook_points"] == world.model.hook_points
    saes = {sae["slug"]: sae for sae in get(client_in, "/saes")}
    assert got["saes"] == [saes["across"], saes["tiny-lm-l6"]]
    across = saes["across"]
    assert (across["hook_out"], across["layer_out"], across["centred"]) == ("mlp_out", 3, True)


def test_a_model_from_before_there_were_hook_points(client_in: Client, world: World) -> None:
    LanguageModel.objects.update(hook_points=[])
    assert get(client_in, "/models/tiny-lm")["hook_points"] == []


def test_more_saes_cost_no_more_queries(client_in: Client, world: World, django_assert_num_queries: Any) -> None:
    for i in range(3):
        factories.make_run(factories.make_sae(world.model, f"sae-{i}"), world.corpus)
    with django_assert_num_queries(5):  # session, user, model, newest runs, SAEs
        get(client_in, "/models/tiny-lm")
    with django_assert_num_queries(3):
        get(client_in, "/models")


@pytest.mark.parametrize("slug", ["nope", "a%00b", "%F0%9F%A6%8A", "a" * 3000])
def test_an_unknown_model(client_in: Client, slug: str) -> None:
    response = client_in.get(f"/api/v1/models/{slug}")
    assert (response.status_code, response.json()) == (404, {"detail": "There is no model of this name here."})
