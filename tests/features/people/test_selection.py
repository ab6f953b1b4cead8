"""The bar under a table: one action for many rows."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from features.models import Collection, Feature, Label, LabelChange, Star, Tagging
from tests import factories
from tests.factories import World
from tests.features.people.helpers import HTMX, token_in

TABLE = "/saes/tiny-lm-l6/features/"
THREE = [f"tiny-lm-l6/{index}" for index in (8, 9, 10)]


def send(client: Client, headers: dict[str, str] = HTMX, **form: Any) -> Any:
    return client.post("/selection/", {"feature": THREE, "next": TABLE} | form, headers=headers)


def labels() -> list[str | None]:
    rows = Feature.objects.filter(sae__slug="tiny-lm-l6", index__in=(8, 9, 10)).order_by("index")
    return list(rows.values_list("label__text", flat=True))


def test_rows_are_labelled_in_place_and_undone(world: World, as_bob: Client) -> None:
    part = send(as_bob, do="label", text=" verbs ").content.decode()
    assert labels() == ["verbs"] * 3
    assert "Labelled 3 features." in part
    cells = re.findall(r'<div data-for="([^"]+)">(.*?)</div>', part, re.S)
    assert [name for name, _ in cells] == THREE
    assert all("verbs" in cell for _, cell in cells)
    assert LabelChange.objects.values("batch").distinct().count() == 1
    undone = as_bob.post("/undo/", {"what": token_in(part)}, headers=HTMX)
    assert labels() == [None] * 3
    assert undone["HX-Trigger"] == "people-changed"
    cells = re.findall(r'<div data-for="([^"]+)">(.*?)</div>', undone.content.decode(), re.S)
    assert sorted(name for name, _ in cells) == sorted(THREE)
    assert "Redo" in undone.content.decode()


def test_those_that_others_changed_stay(world: World, as_bob: Client, client_in: Client) -> None:
    part = send(as_bob, do="label", text="verbs").content.decode()
    send(client_in, do="label", text="nouns", feature=THREE[:2])
    undone = as_bob.post("/undo/", {"what": token_in(part)}, headers=HTMX).content.decode()
    assert "2 of 3 were changed since and stay." in undone
    assert labels() == ["nouns", "nouns", None]


def test_the_same_again_says_so(world: World, as_bob: Client) -> None:
    send(as_bob, do="label", text="verbs", feature=THREE[:2])
    part = send(as_bob, do="label", text="verbs").content.decode()
    assert "Labelled 1 feature. 2 features show this label of yours already." in part
    part = send(as_bob, do="label", text="verbs").content.decode()
    assert "Nothing to change." in part
    assert 'name="what"' not in part


def test_tags_stars_and_collections(world: World, bob: User, as_bob: Client) -> None:
    parts = [
        send(as_bob, do="tag", tag="rare, odd").content.decode(),
        send(as_bob, do="star").content.decode(),
        send(as_bob, do="collect", collection="Found here").content.decode(),
    ]
    assert (Tagging.objects.count(), Star.objects.filter(user=bob).count()) == (6, 3)
    own = Collection.objects.get(slug="found-here")
    assert [item.feature.index for item in own.items.select_related("feature")] == [8, 9, 10]
    assert "the new collection “Found here”, which only you see" in parts[2]
    for part in parts:
        as_bob.post("/undo/", {"what": token_in(part)})
    assert (Tagging.objects.count(), Star.objects.count(), own.items.count()) == (0, 0, 0)


def test_enter_means_the_field_that_was_filled_in(world: World, as_bob: Client) -> None:
    send(as_bob, text="", tag="rare", collection="")
    assert Tagging.objects.count() == 3
    answer = send(as_bob, text="verbs", tag="rare")
    assert answer.status_code == 422
    assert labels() == [None] * 3


def test_without_javascript_there_is_a_redirect_and_an_undo(world: World, as_bob: Client) -> None:
    answer = as_bob.post(
        "/selection/", {"feature": THREE, "do": "label", "text": "verbs", "next": f"{TABLE}?order=-max"}, follow=True
    )
    assert answer.redirect_chain == [(f"{TABLE}?order=-max", 302)]
    as_bob.post("/undo/", {"what": token_in(answer.content.decode())})
    assert labels() == [None] * 3


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"feature": []}, "No feature is ticked"),
        ({"feature": ["tiny-lm-l6/999"]}, "has no feature 999"),
        ({"feature": ["nope/1"]}, "no SAE “nope”"),
        ({"feature": ["<b>"]}, "“&lt;b&gt;” names no feature"),
        ({"text": "x" * 201}, "200 characters"),
        ({"do": "burn"}, "labelled, tagged, starred or collected"),
    ],
)
def test_a_refusal_changes_nothing_and_keeps_the_selection(
    form: dict[str, Any], sentence: str, world: World, as_bob: Client
) -> None:
    whole = {"do": "label", "text": "kept words", "feature": THREE} | form
    before = Label.objects.count()
    in_place = as_bob.post("/selection/", whole, headers=HTMX)
    assert in_place.status_code == 422
    assert sentence in in_place.content.decode()
    page = as_bob.post("/selection/", whole)
    assert page.status_code == 422
    assert sentence in page.content.decode()
    assert whole["text"] in page.content.decode()
    for name in whole["feature"]:
        assert f'value="{name}"' in page.content.decode() or "<" in name
    assert Label.objects.count() == before


def test_a_list_of_one_sae_may_leave_out_its_name(world: World, as_bob: Client) -> None:
    factories.make_features(factories.make_sae(world.model, "other", d_sae=2))
    send(as_bob, do="tag", tag="listed", sae="tiny-lm-l6", features="8, 9 other/1", feature=[])
    found = Tagging.objects.order_by("feature__sae__slug", "feature__index")
    assert list(found.values_list("feature__sae__slug", "feature__index")) == [
        ("other", 1), ("tiny-lm-l6", 8), ("tiny-lm-l6", 9)
    ]  # fmt: skip
