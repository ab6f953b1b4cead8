"""The first page."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from tests import factories
from tests.factories import World


def test_an_empty_site_says_what_to_run(user: User, client: Client) -> None:
    client.force_login(user)
    page = client.get("/").content.decode()
    assert "make demo" in page
    assert "python manage.py extract" in page
    assert "/jobs/new/" in page
    assert "/saes/add/" in page


def test_saes_stand_by_layer_and_hook(world: World, client_in: Client) -> None:
    factories.make_sae(world.model, "early", layer=2, hook="mlp_out")
    (shelf,) = client_in.get("/").context["shelves"]
    assert shelf.hooks == ["mlp_out", "resid_post"]
    named = [(layer, [[p.sae.slug for p in cell] for cell in cells]) for layer, cells in shelf.layers]
    assert named == [(2, [["early"], []]), (6, [[], ["tiny-lm-l6"]])]
    assert shelf.layers[1][1][1][0].run == world.run


def test_a_run_that_is_not_valid_says_so_with_the_reason(world: World, client_in: Client) -> None:
    factories.make_run(world.sae, world.corpus, valid=False, why_not_valid="L0 901.0 is far from k = 8")
    page = client_in.get("/").content.decode()
    assert "NOT VALID FOR THIS MODEL" in page
    assert "L0 901.0 is far from k = 8" in page


def test_more_saes_and_runs_cost_no_more_queries(
    world: World, client_in: Client, django_assert_num_queries: pytest.FixtureRequest
) -> None:
    for i in range(4):
        factories.make_run(factories.make_sae(world.model, f"sae-{i}"), world.corpus, world.user)
    with django_assert_num_queries(5):  # type: ignore[operator]  # session, user, newest runs, SAEs, latest runs
        client_in.get("/")


def test_the_base_is_accessible(world: World, client_in: Client) -> None:
    page = client_in.get("/").content.decode()
    assert '<html lang="en">' in page
    assert 'href="#content"' in page
    assert 'id="content"' in page
    assert page.count("<h1") == 1
    assert "<script>" not in page
    assert "style=" not in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
