"""One feature over REST: everything it says, against what is stored."""

from typing import Any

import numpy as np
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from features.models import Activity, Context
from features.store.contexts import unpack_tokens
from features.store.examples import BANDS, NEAR_MISS, SILENT, unpack_examples
from features.store.histogram import unpack_histogram
from features.store.ranked import unpack_ranked
from features.vocabulary import tokens_of
from tests import factories
from tests.factories import DEAD, HOSTILES, NAMED, SPLITS, TIED, World


def get(client: Client, index: int, **query: Any) -> Any:
    response = client.get(f"/api/v1/saes/tiny-lm-l6/features/{index}", query)
    assert response.status_code == 200, response.content
    return response.json()


def test_its_shape_and_its_numbers(client_in: Client, world: World) -> None:
    for activity in Activity.objects.filter(run=world.run).select_related("feature"):
        got = get(client_in, activity.index)
        assert list(got) == [
            *("sae", "index", "label", "run", "density", "n_tokens", "n_contexts", "n_contexts_total", "n_firing"),
            *("max_activation", "mean_activation", "valid", "why_not_valid"),
            *("histogram", "logits", "neighbours", "examples"),
            *("near_misses", "silent", "partners", "n_pool_tokens", "encoder_neighbours"),
            *("router_layer", "experts"),
        ]
        assert (got["sae"], got["index"], got["run"]) == ("tiny-lm-l6", activity.index, world.run.pk)
        assert (got["n_tokens"], got["n_contexts_total"]) == (world.run.n_tokens, world.run.n_contexts)
        assert (got["valid"], got["why_not_valid"]) == (True, "")
        for name in ("density", "n_contexts", "n_firing", "max_activation", "mean_activation"):
            assert got[name] == getattr(activity, name)
        histogram = unpack_histogram(bytes(activity.histogram))
        assert got["histogram"]["counts"] == histogram.counts.tolist()
        assert np.array_equal(np.float32(got["histogram"]["edges"]), histogram.edges)


def test_its_examples_are_joined_to_their_contexts(client_in: Client, world: World) -> None:
    tokens = tokens_of(world.model)
    contexts = {context.number: context for context in Context.objects.filter(run=world.run)}
    n_shown = 0
    for activity in Activity.objects.filter(run=world.run):
        got = get(client_in, activity.index)["examples"]
        stored = [example for example in unpack_examples(bytes(activity.examples)) if example.fires]
        assert {example["band"] for example in got} <= set(BANDS[:5])
        assert [example["context_id"] for example in got] == [example.context for example in stored]
        for sent, kept in zip(got, stored, strict=True):
            context = contexts[kept.context]
            ids = unpack_tokens(bytes(context.token_ids))
            assert sent["band"] == BANDS[kept.band]
            assert sent["token_ids"] == ids.tolist()
            assert sent["tokens"] == tokens.texts(ids)
            assert len(sent["values"]) == len(ids)
            assert np.array_equal(np.float32(sent["values"]), kept.dense(len(ids)))  # every bit survives JSON
            assert sent["peak"] == kept.peak == int(np.argmax(sent["values"]))
            assert sent["max_value"] == sent["values"][kept.peak] == kept.max_value
            assert sent["document"] == {"id": context.document_id, "source": context.document_source}
            n_shown += 1
    assert n_shown > 100


def test_its_weights_side(client_in: Client, world: World) -> None:
    feature = Activity.objects.get(run=world.run, index=SPLITS).feature
    got = get(client_in, SPLITS)
    tokens = tokens_of(world.model)
    for side, ranked in zip(("top", "bottom"), unpack_ranked(bytes(feature.logits), 2), strict=True):
        assert got["logits"][side] == [
            {"token_id": int(i), "token": tokens.text_of(int(i)), "value": float(v)}
            for i, v in zip(ranked.ids, ranked.values, strict=True)
        ]
    for name, near in zip(
        ("neighbours", "encoder_neighbours"), unpack_ranked(bytes(feature.neighbours), 2), strict=True
    ):
        assert len(near.ids) == 8
        assert [n["index"] for n in got[name]] == near.ids.tolist()
        assert [n["cosine"] for n in got[name]] == near.values.tolist()


def test_where_it_does_not_fire(client_in: Client, world: World) -> None:
    tokens = tokens_of(world.model)
    for activity in Activity.objects.filter(run=world.run):
        got = get(client_in, activity.index)
        stored = list(unpack_examples(bytes(activity.examples)))
        for name, band in (("near_misses", NEAR_MISS), ("silent", SILENT)):
            kept = [example for example in stored if example.band == band]
            assert [sent["context_id"] for sent in got[name]] == [example.context for example in kept]
            for sent in got[name]:
                context = Context.objects.get(run=world.run, number=sent["context_id"])
                assert sent["token_ids"] == unpack_tokens(bytes(context.token_ids)).tolist()
                assert sent["tokens"] == tokens.texts(sent["token_ids"])
                assert sent["document"] == {"id": context.document_id, "source": context.document_source}
        assert [(n["position"], n["pre_activation"]) for n in got["near_misses"]] == [(3, -0.25)] * len(
            got["near_misses"]
        )
    assert got["near_misses"]
    assert got["silent"]


def test_its_partners_come_with_their_sample(client_in: Client, world: World) -> None:
    got = get(client_in, NAMED)
    (partners,) = unpack_ranked(bytes(Activity.objects.get(run=world.run, index=NAMED).partners))
    assert [(p["index"], p["jaccard"]) for p in got["partners"]] == list(partners.pairs())
    assert got["n_pool_tokens"] == world.run.n_pool_tokens == 500
    assert get(client_in, DEAD)["partners"] == []


def test_its_experts_come_with_their_router(client_in: Client, world: World) -> None:
    assert (get(client_in, NAMED)["router_layer"], get(client_in, NAMED)["experts"]) == (None, [])  # a dense model
    run = factories.make_run(world.sae, world.corpus, experts=factories.ROUTER)
    factories.fill_run(run, list(world.sae.features.order_by("index")), 6)
    got = get(client_in, NAMED, run=run.pk)
    shares, lifts = unpack_ranked(bytes(Activity.objects.get(run=run, index=NAMED).experts), 2)
    assert got["router_layer"] == 6
    assert [(e["expert"], e["share"]) for e in got["experts"]] == list(shares.pairs())
    assert [(e["expert"], e["lift"]) for e in got["experts"]] == list(lifts.pairs())
    assert len(got["experts"]) == 2
    assert get(client_in, DEAD, run=run.pk)["experts"] == []


def test_labels(client_in: Client, world: World) -> None:
    assert get(client_in, DEAD)["label"] is None
    assert get(client_in, NAMED)["label"] == {
        "text": "cities, by Ada",
        "source": "person",
        "rule": "",
        "precision": None,
        "n_held_out": None,
        "author": "ada",
    }
    assert get(client_in, TIED)["label"] == {
        "text": "“ river”",
        "source": "rule",
        "rule": "token",
        "precision": 9 / 11,
        "n_held_out": 11,
        "author": None,
    }
    named = {n["index"]: n["label"] for i in range(24) for n in get(client_in, i)["neighbours"]}
    assert named[NAMED] == "cities, by Ada"
    assert named[DEAD] is None


def test_a_dead_feature_invents_nothing(client_in: Client, world: World) -> None:
    got = get(client_in, DEAD)
    assert got["examples"] == []
    assert got["histogram"] == {"edges": [], "counts": []}
    assert got["density"] == got["max_activation"] == got["n_contexts"] == got["n_firing"] == 0
    assert len(got["logits"]["top"]) == 10


def test_hostile_text_is_data(client_in: Client, world: World) -> None:
    response = client_in.get(f"/api/v1/saes/tiny-lm-l6/features/{HOSTILES}")
    assert factories.HOSTILE in response.json()["label"]["text"]
    assert response["Content-Type"].startswith("application/json")
    assert response["X-Content-Type-Options"] == "nosniff"


def test_the_number_of_queries_does_not_grow(client_in: Client, world: World) -> None:
    get(client_in, DEAD)  # reads the vocabulary, once a process
    counts = set()
    for index in (DEAD, NAMED, TIED):
        with CaptureQueriesContext(connection) as queries:
            get(client_in, index)
        counts.add(len([q for q in queries if 'FROM "features_' in q["sql"]]))
    assert max(counts) <= 5  # SAE, run, activity, contexts, neighbours' labels


@pytest.mark.parametrize("index", ["24", "-1", "99999999999999999999999999"])
def test_no_such_feature(client_in: Client, index: str) -> None:
    response = client_in.get(f"/api/v1/saes/tiny-lm-l6/features/{index}")
    sentence = f"This SAE has no feature {index}: they are numbered from 0 to 23."
    assert (response.status_code, response.json()) == (404, {"detail": sentence})


def test_an_index_is_a_number(client_in: Client) -> None:
    response = client_in.get("/api/v1/saes/tiny-lm-l6/features/first")
    assert response.status_code == 422
    assert response.json()["detail"].startswith("index: Input should be a valid integer")


@pytest.mark.parametrize("run", ["0", "-5", "99999999999999999999999999"])
def test_no_such_run(client_in: Client, run: str) -> None:
    response = client_in.get("/api/v1/saes/tiny-lm-l6/features/1", {"run": run})
    assert (response.status_code, response.json()) == (404, {"detail": f"This SAE has no run {run}."})


def test_pages_and_the_api_show_the_same_evidence(client_in: Client, world: World) -> None:
    for index in (DEAD, TIED, SPLITS):
        got = get(client_in, index)
        page = client_in.get(f"/saes/tiny-lm-l6/features/{index}/").context
        shown = [example for band in page.get("bands", []) for example in band.examples]
        assert [(e.context.number, e.value) for e in shown] == [
            (e["context_id"], e["max_value"]) for e in got["examples"]
        ]
        for side, effects in (("top", page["positive"]), ("bottom", page["negative"])):
            assert [(e.id, e.value) for e in effects] == [(e["token_id"], e["value"]) for e in got["logits"][side]]
        for name in ("near_misses", "silent"):
            assert [e.context.number for e in page[name]] == [e["context_id"] for e in got[name]]
        for name, near in (
            ("neighbours", page["relatives"].decoder),
            ("encoder_neighbours", page["relatives"].encoder),
        ):
            assert [(n.feature.index, n.value) for n in near] == [(n["index"], n["cosine"]) for n in got[name]]
