"""An SAE's page and its figures."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from django.db import IntegrityError, transaction
from django.test import Client

from features.models import SAE as SAERow
from features.models import Activity, Corpus, Run
from tests import factories
from tests.factories import World

SAE = "/saes/tiny-lm-l6/"


def test_it_says_what_the_sae_is_and_how_good_the_run(world: World, client_in: Client) -> None:
    page = client_in.get(SAE).content.decode()
    for fact in ("topk, k = 8", "resid_post, layer 6 of 12", "64 → 24", world.sae.digest, "0.830", "2.13.0"):
        assert fact in page
    assert "plotly/plotly.min.js" in page
    assert len(client_in.get(SAE).context["rows"]) == 10


def test_it_shows_what_its_files_say(world: World, client_in: Client) -> None:
    page = client_in.get(SAE).content.decode()
    card = page[page.index("What its files say") :]
    for fact in ("saelens_v6", "8.5", "w.safetensors"):
        assert fact in card
    SAERow.objects.update(card={})  # from before there were cards
    assert "What its files say" not in client_in.get(SAE).content.decode()


def test_a_transcoder_says_where_it_writes(world: World, client_in: Client) -> None:
    where = {"hook": "mlp_in", "layer": 3, "hook_out": "mlp_out", "centred": True}
    near = factories.make_sae(world.model, "near", layer_out=3, **where)
    far = factories.make_sae(world.model, "far", layer_out=5, **where)
    assert near.site == "layer 3 · mlp_in → mlp_out"
    assert far.site == "layer 3 · mlp_in → layer 5 · mlp_out"
    page = client_in.get("/saes/far/").content.decode()
    for fact in (far.site, "mlp_in, layer 3 of 12", "mlp_out, layer 5", "centred: its mean over the 64 dimensions"):
        assert fact in page
    assert "centred" not in client_in.get(SAE).content.decode().split("What its files say")[0]


@pytest.mark.parametrize("other", [{"k": None}, {"hook_out": "mlp_out", "layer_out": 0}, {"centred": True}])
def test_a_row_for_each_way_of_reading_one_checkpoint(world: World, other: dict[str, Any]) -> None:
    sae = factories.make_sae(world.model, "b", digest=world.sae.digest, **other)
    with pytest.raises(IntegrityError), transaction.atomic():
        factories.make_sae(world.model, "c", digest=sae.digest, **other)
    factories.make_sae(world.model, "d", digest=sae.digest, layer=0, **other)


def test_the_newest_run_is_shown_unless_another_is_chosen(world: World, client_in: Client) -> None:
    newer = factories.make_run(world.sae, factories.make_corpus("other"), valid=False, why_not_valid="it <i>failed</i>")
    shown = client_in.get(SAE)
    assert shown.context["run"] == newer
    assert "It &lt;i&gt;failed&lt;/i&gt;" in shown.content.decode()
    older = client_in.get(f"{SAE}?run={world.run.pk}")
    assert older.context["run"] == world.run
    assert f"/features/?run={world.run.pk}" in older.content.decode()
    assert "NOT VALID FOR THIS MODEL" not in older.content.decode()


def test_an_sae_without_a_run_says_what_to_do(world: World, client_in: Client) -> None:
    factories.make_sae(world.model, "unread")
    page = client_in.get("/saes/unread/").content.decode()
    assert "/jobs/new/" in page
    assert "plotly" not in page
    assert client_in.get("/saes/unread/features/").status_code == 200
    assert client_in.get("/saes/unread/plots/density.json").status_code == 404


def test_a_feature_of_an_sae_without_a_run_shows_its_weights(world: World, client_in: Client) -> None:
    factories.make_features(factories.make_sae(world.model, "unread"))
    page = client_in.get("/saes/unread/features/3/").content.decode()
    assert "Nothing has been read through this SAE yet" in page
    assert "Nearest decoder directions" in page
    assert client_in.get("/saes/unread/features/3/contexts/0/").status_code == 404
    assert client_in.get("/saes/unread/features/24/").status_code == 404
    assert client_in.get(f"/saes/unread/features/3/?run={world.run.pk}").status_code == 404


def test_plots_are_json_of_the_run(world: World, client_in: Client) -> None:
    answer = client_in.get(f"{SAE}plots/scatter.json?run={world.run.pk}&revision=0")
    assert answer["Content-Type"] == "application/json"
    assert answer["Cache-Control"] == "private, max-age=86400, immutable"
    assert json.loads(answer.content)["data"][0]["type"] == "scatter"
    assert f"run={world.run.pk}&amp;revision=0" in client_in.get(SAE).content.decode()
    assert client_in.get(f"{SAE}plots/other.json").status_code == 404


@pytest.mark.parametrize("query", ["", "?run={run}", "?run={run}&revision=7"])
def test_a_figure_that_may_change_is_asked_for_again(query: str, world: World, client_in: Client) -> None:
    address = f"{SAE}plots/density.json{query.format(run=world.run.pk)}"
    answer = client_in.get(address)
    assert answer["Cache-Control"] == "private, no-cache"
    again = client_in.get(address, headers={"If-None-Match": answer["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    Run.objects.filter(pk=world.run.pk).update(revision=1)
    assert client_in.get(address, headers={"If-None-Match": answer["ETag"]}).status_code == 200


def test_figures_show_what_the_run_found(world: World, client_in: Client) -> None:
    (trace,) = client_in.get(f"{SAE}plots/scatter.json").json()["data"]
    alive = Activity.objects.filter(run=world.run, density__gt=0).order_by("index")
    for name, kind, field in (("customdata", "i4", "index"), ("x", "f4", "density"), ("y", "f4", "max_activation")):
        sent = np.frombuffer(base64.b64decode(trace[name]["bdata"]), f"<{kind}")
        assert sent.tolist() == np.array([getattr(a, field) for a in alive], kind).tolist()
    dead, _ = client_in.get(f"{SAE}plots/density.json").json()["data"]
    assert np.frombuffer(base64.b64decode(dead["y"]["bdata"]), "<i4").tolist() == [1]


def test_the_page_costs_the_same_for_any_number_of_features(
    world: World, client_in: Client, django_assert_num_queries: Any
) -> None:
    client_in.get(SAE)
    # Session, user, run with its SAE, ten activities, runs to choose from, how it was trained; contexts the first time.
    with django_assert_num_queries(6):
        client_in.get(SAE)


def test_what_a_corpus_says_of_itself_is_text(world: World, client_in: Client) -> None:
    hostile = f"{factories.HOSTILE}{factories.OVERRIDE}"
    Corpus.objects.update(name=hostile, source=hostile, origin=hostile, licence=hostile)
    factories.make_run(world.sae, world.corpus)  # two runs: the page lets choose
    for address in (SAE, f"{SAE}features/5/?run={world.run.pk}", world.run.get_absolute_url(), "/"):
        page = client_in.get(address).content.decode()
        assert factories.HOSTILE not in page
        assert factories.OVERRIDE not in page
        assert "&lt;script&gt;" in page
