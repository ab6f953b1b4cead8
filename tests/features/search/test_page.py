"""The page of search, and the same by the API."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client

from features.models import ApiKey, Feature
from features.search import filling, meaning
from features.search.meaning import Codes
from features.views import search as view
from tests import factories
from tests.factories import HOSTILES, NAMED, TIED_TOO, World


@pytest.fixture(autouse=True)
def ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meaning, "_kept", Codes())
    filling.fill(connection)


def indexes(answer: Any) -> list[int]:
    return [line.feature.index for line in answer.context["lines"]]


def test_an_outsider_is_sent_to_the_login_page(anonymous: Client) -> None:
    answer = anonymous.get("/search/?q=river")
    assert answer.status_code == 302
    assert answer["Location"] == "/login/?next=/search/%3Fq%3Driver"
    assert anonymous.get("/api/v1/search?q=river").status_code == 401


def test_an_empty_page_says_what_can_be_searched(client_in: Client) -> None:
    for address in ("/search/", "/search/?q=", "/search/?q=+%22%22"):
        page = client_in.get(address).content.decode()
        assert "Text of examples" in page
        assert "<table" not in page


def test_it_finds_and_says_why(client_in: Client) -> None:
    answer = client_in.get("/search/?q=by+Ada")
    page = answer.content.decode()
    assert indexes(answer)[0] == NAMED
    assert "cities, <mark>by Ada</mark>" in page or "cities, <mark>by</mark> <mark>Ada</mark>" in page
    assert 'data-feature="tiny-lm-l6/7"' in page
    text = client_in.get("/search/?q=river&mode=text").content.decode()
    assert "<mark>river</mark>" in text
    assert "more of its contexts" in text
    assert "by meaning 0." in client_in.get("/search/?q=towns&mode=meaning").content.decode()


def test_what_is_not_found_is_said_with_a_way_on(client_in: Client) -> None:
    page = client_in.get("/search/?q=nothing+like+it&mode=label&in=sae/tiny-lm-l6").content.decode()
    assert "No feature of tiny-lm-l6 was found by its label" in page
    assert 'href="?q=nothing+like+it"' in page


@pytest.mark.parametrize(
    "q",
    ["<script>alert(1)", "a OR b", 'say "', "NEAR(x y)", "*", "%", "_", "'; --", "\\", "^x", "{x}", "-x", "x:y", "語"],
)
@pytest.mark.parametrize("mode", ["all", "label", "text", "meaning"])
def test_whatever_is_typed_is_text(q: str, mode: str, client_in: Client) -> None:
    answer = client_in.get("/search/", {"q": q, "mode": mode})
    assert answer.status_code == 200
    assert "<script>alert" not in answer.content.decode()


def test_html_in_labels_is_text_and_is_marked_inside(client_in: Client) -> None:
    answer = client_in.get("/search/?q=script&mode=label")
    page = answer.content.decode()
    assert indexes(answer) == [HOSTILES]
    assert "“&lt;<mark>script</mark>&gt;alert(1)&lt;/<mark>script</mark>&gt;”" in page
    assert "\u202e" not in page


def test_what_is_too_long_is_refused_and_not_lost(client_in: Client) -> None:
    answer = client_in.get("/search/", {"q": "x" * 201})
    assert answer.status_code == 422
    assert "at most 200 characters" in answer.content.decode()
    assert "x" * 201 in answer.content.decode()
    part = client_in.get("/search/", {"q": "x" * 201}, headers={"HX-Request": "true"})
    assert part.status_code == 200  # htmx shows no other
    assert "at most 200 characters" in part.content.decode()


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("?q=river&in=sae/nope", 404),
        ("?q=river&in=model/%00", 404),
        ("?q=river&in=nonsense", 200),
        ("?q=river&mode=nonsense&page=-3", 200),
        ("?q=river&page=9999", 200),
        ("?q=%00", 422),
    ],
)
def test_a_damaged_address(address: str, status: int, client_in: Client) -> None:
    assert client_in.get(f"/search/{address}").status_code == status


def test_pages_show_every_hit_once(client_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = indexes(client_in.get("/search/?q=the"))
    monkeypatch.setattr(view, "ROWS", 5)
    query, seen = "q=the", []
    while query:
        answer = client_in.get(f"/search/?{query}")
        seen += indexes(answer)
        query = answer.context["next"]
    assert seen == everything
    assert len(set(seen)) == len(seen) > 5
    assert client_in.get(f"/search/?{answer.context['previous']}").context["next"]


def test_htmx_gets_the_list_alone(client_in: Client) -> None:
    part = client_in.get("/search/?q=river", headers={"HX-Request": "true"}).content.decode()
    whole = client_in.get("/search/?q=river")
    assert part.lstrip().startswith('<div id="results"')
    assert part.strip() in whole.content.decode()
    assert "HX-Request" in whole["Vary"]


def test_seven_queries_at_most(client_in: Client, world: World, django_assert_max_num_queries: Any) -> None:
    client_in.get("/search/?q=warm")
    client_in.get("/search/?q=warm&in=sae/tiny-lm-l6")  # its labels are kept from now on
    for address in ("?q=river", "?q=the&mode=text", "?q=river&in=sae/tiny-lm-l6", "", "?q=towns&mode=meaning"):
        with django_assert_max_num_queries(7):
            client_in.get(f"/search/{address}")


def test_the_api_gives_the_same_hits_with_reasons(client_in: Client, user: User) -> None:
    _, secret = ApiKey.objects.issue(user, "a notebook")
    answer = Client().get("/api/v1/search?q=river&limit=3", headers={"X-API-Key": secret}).json()
    page = client_in.get("/search/?q=river")
    assert [item["index"] for item in answer["items"]] == indexes(page)[:3]
    assert answer["total"] == page.context["total"]
    first = answer["items"][0]["reasons"][0]
    assert first["kind"] == "exact label"
    assert [first["text"][a:b] for a, b in first["marks"]] == ["river"]


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("q=" + "x" * 201, 422, "A search is at most 200 characters long; this one has 201."),
        ("q=river&sae=nope", 404, "There is no SAE of this name here."),
        ("q=river&limit=0", 422, "limit"),
        ("q=river&mode=sideways", 422, "mode"),
        ("", 422, "q"),
    ],
)
def test_the_api_refuses_with_a_sentence(query: str, status: int, sentence: str, client_in: Client) -> None:
    answer = client_in.get(f"/api/v1/search?{query}")
    assert answer.status_code == status
    assert sentence in answer.json()["detail"]


def test_a_label_given_now_is_found_now(client_in: Client, world: World) -> None:
    from features.knowledge.labelling import give

    feature = Feature.objects.get(index=TIED_TOO)
    give([feature], "mouths of streams", world.user, explanation="Where fresh water meets the sea.")
    assert indexes(client_in.get("/search/?q=streams&mode=label")) == [TIED_TOO]
    assert indexes(client_in.get("/search/?q=fresh+water&mode=label")) == [TIED_TOO]
    assert TIED_TOO in indexes(client_in.get("/search/?q=the+mouth+of+a+stream&mode=meaning"))
    factories.make_label(feature, "another", author=world.user)
    assert indexes(client_in.get("/search/?q=streams&mode=label")) == []
