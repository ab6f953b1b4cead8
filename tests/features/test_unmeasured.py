"""A run that was imported has no quality of its own: no page claims any for it, and none breaks."""

import pytest
from django.test import Client

from features.models import SAE, Activity, Feature, LanguageModel, Run
from tests.factories import NAMED, World

BASE = "/saes/tiny-lm-l6/"
PAGES = ["/", "/models/tiny-lm/", BASE, f"{BASE}features/", f"{BASE}features/{NAMED}/", "/runs/{run}/"]


@pytest.fixture
def imported(world: World) -> World:
    nothing = dict.fromkeys(("explained_variance", "fvu", "cosine", "shrinkage", "l0", "valid"))
    Run.objects.update(origin=Run.Origin.NEURONPEDIA, seconds=0, n_tokens=0, **nothing)
    Activity.objects.update(n_firing=None, n_contexts=None, mean_activation=None)
    Feature.objects.update(decoder_norm=None, encoder_decoder_cosine=None)
    SAE.objects.update(digest="")
    LanguageModel.objects.update(weights_digest="", tokenizer_digest="")
    return world


@pytest.mark.parametrize("page", PAGES)
def test_pages_say_that_nobody_checked(page: str, imported: World, client_in: Client) -> None:
    shown = client_in.get(page.format(run=imported.run.pk)).content.decode()
    assert "ot checked here" in shown
    assert "NOT VALID FOR THIS MODEL" not in shown
    assert '<span class="badge good">valid' not in shown
    assert ">None<" not in shown


@pytest.mark.parametrize("page", [BASE, "/runs/{run}/", f"{BASE}features/{NAMED}/"])
def test_figures_say_that_nobody_measured(page: str, imported: World, client_in: Client) -> None:
    shown = client_in.get(page.format(run=imported.run.pk)).content.decode()
    assert ">not measured" in shown
    assert "dead <small>here" not in shown


def test_a_run_that_was_checked_says_nothing_of_it(world: World, client_in: Client) -> None:
    for page in PAGES:
        shown = client_in.get(page.format(run=world.run.pk)).content.decode()
        assert "Not checked here." not in shown
        assert ">not measured" not in shown


def test_the_api_says_null(imported: World, client_in: Client) -> None:
    run = client_in.get("/api/v1/saes/tiny-lm-l6").json()["run"]
    assert (run["valid"], run["explained_variance"], run["l0"], run["origin"]) == (None, None, None, "neuronpedia")
    feature = client_in.get(f"/api/v1/saes/tiny-lm-l6/features/{NAMED}").json()
    assert [feature[name] for name in ("valid", "n_firing", "n_contexts", "mean_activation")] == [None] * 4
    (row,) = client_in.get("/api/v1/saes/tiny-lm-l6/features", {"ids": NAMED}).json()["items"]
    assert (row["n_contexts"], row["mean_activation"]) == (None, None)
