"""The pages of models: the list, and one as a grid of its hook points."""

import re
from typing import Any

from django.test import Client

from features.models import LanguageModel
from tests import factories
from tests.factories import World

MODEL = "/models/tiny-lm/"


def page_of(client: Client, address: str = MODEL) -> str:
    return client.get(address).content.decode()


def test_the_list_leads_to_every_model(world: World, client_in: Client) -> None:
    factories.make_model("without-saes")
    page = page_of(client_in, "/models/")
    for address in (MODEL, "/models/without-saes/"):
        assert f'href="{address}"' in page
    assert f'href="{MODEL}"' in page_of(client_in, "/")
    assert f'href="{MODEL}"' in page_of(client_in, world.sae.get_absolute_url())
    assert f'href="{MODEL}"' in page_of(client_in, "/saes/tiny-lm-l6/features/5/")


def test_a_site_without_models_says_what_to_do(user: Any, client: Client) -> None:
    client.force_login(user)
    assert "/jobs/new/" in page_of(client, "/models/")


def test_it_says_what_the_model_is(world: World, client_in: Client) -> None:
    LanguageModel.objects.update(revision="c0ffee")
    page = page_of(client_in)
    digests = (world.model.weights_digest, world.model.tokenizer_digest)
    for fact in ("TinyForCausalLM", "<dd>12</dd>", "<dd>64</dd>", "models/tiny-lm", "c0ffee", *digests):
        assert fact in page
    assert page.count("<h1") == 1
    assert "style=" not in page


def test_the_grid_has_a_place_for_every_hook_point(world: World, client_in: Client) -> None:
    grid = client_in.get(MODEL).context["grid"]
    assert [(c.hook, c.widths) for c in grid.columns] == [
        ("embeddings", [64]),
        ("resid_post", [64]),
        ("mlp_act", [256]),
        ("mlp_out", [64]),
    ]
    exist = [[row.layer for row in grid.rows if row.cells[i].exists] for i in range(4)]
    assert exist == [[0], list(range(12)), [0, 1, 3, 5, 7], list(range(12))]
    assert (grid.routers, grid.elsewhere) == ([], [])


def test_saes_stand_where_they_read_with_the_validity_of_their_newest_run(world: World, client_in: Client) -> None:
    bad = factories.make_sae(world.model, "bad", layer=6, d_sae=4096)
    factories.make_run(bad, world.corpus)
    factories.make_run(bad, world.corpus, valid=False)
    factories.make_sae(world.model, "unread", layer=3, hook="mlp_act", d_sae=2048)
    answer = client_in.get(MODEL)
    grid, page = answer.context["grid"], answer.content.decode()
    placed = {
        (r.layer, i): [p.sae.slug for p in c.placed] for r in grid.rows for i, c in enumerate(r.cells) if c.placed
    }
    assert placed == {(6, 1): ["tiny-lm-l6", "bad"], (3, 2): ["unread"]}  # in a cell, the smaller first
    links = dict(re.findall(r'<a class="at (\w+)" href="/saes/([\w-]+)/"', page))
    assert links == {"good": "tiny-lm-l6", "bad": "bad", "none": "unread"}
    assert page.count('class="free"') == 1 + 11 + 4 + 12 + 1  # and one in the key


def test_a_hook_of_several_widths_is_one_column(world: World, client_in: Client) -> None:
    points = [{"hook": "mlp_act", "width": 8, "layers": [0, 3]}, {"hook": "mlp_act", "width": 16, "layers": [4, 4]}]
    LanguageModel.objects.update(hook_points=points)
    (column,) = client_in.get(MODEL).context["grid"].columns
    assert (column.widths, sorted(column.layers)) == ([8, 16], [0, 1, 2, 3, 4])


def test_layers_with_experts_are_marked(world: World, client_in: Client) -> None:
    world.model.hook_points.append({"router": {"layers": [1, 4], "n_experts": 64, "per_token": 8}})
    world.model.save()
    answer = client_in.get(MODEL)
    assert [row.layer for row in answer.context["grid"].rows if row.router] == [1, 2, 3, 4]
    assert answer.content.decode().count('<td class="router">8 of 64</td>') == 4
    assert "8 of 64 for each token, in 4 layers" in answer.content.decode()


def test_saes_on_other_hook_points_are_listed_below(world: World, client_in: Client) -> None:
    factories.make_sae(world.model, "inner", hook="mlp.gate_proj.output")
    factories.make_sae(world.model, "deep", layer=40)
    factories.make_sae(world.model, "across", hook="mlp_in", hook_out="mlp_out", layer_out=6)
    answer = client_in.get(MODEL)
    assert {p.sae.slug for p in answer.context["grid"].elsewhere} == {"inner", "deep", "across"}
    page = answer.content.decode()
    for text in ("SAEs on other hook points", "mlp.gate_proj.output", "mlp_in → mlp_out"):
        assert text in page


def test_a_model_from_before_there_were_hook_points_lists_its_saes(world: World, client_in: Client) -> None:
    LanguageModel.objects.update(hook_points=[])
    page = page_of(client_in)
    assert "the next extraction on it fills this in" in page
    assert f'href="{world.sae.get_absolute_url()}"' in page


def test_hostile_names_are_text(world: World, client_in: Client) -> None:
    hostile = f"{factories.HOSTILE}{factories.OVERRIDE}"
    LanguageModel.objects.update(name=hostile, source=hostile, revision=hostile)
    for address in (MODEL, "/models/"):
        page = page_of(client_in, address)
        assert factories.HOSTILE not in page
        assert factories.OVERRIDE not in page


def test_more_saes_cost_no_more_queries(world: World, client_in: Client, django_assert_num_queries: Any) -> None:
    for i in range(4):
        factories.make_run(factories.make_sae(world.model, f"sae-{i}", layer=i), world.corpus)
    with django_assert_num_queries(5):  # session, user, model, newest runs, SAEs
        client_in.get(MODEL)
    with django_assert_num_queries(3):
        client_in.get("/models/")
