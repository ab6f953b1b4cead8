"""What is done on a feature's page: without JavaScript, with htmx, by whom, and what a refusal keeps."""

import re
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from features.knowledge import labelling, notes
from features.models import Comment, Feature, Label, Star, Tagging, Vote
from tests.factories import DEAD, NAMED, World
from tests.features.people.helpers import HTMX, token_in

HOSTILE = "<script>alert(1)</script>\u202e"
FEATURE = f"/saes/tiny-lm-l6/features/{NAMED}/"
ACTIONS = ["label/", "label/withdraw/", "labels/1/show/", "labels/1/vote/", "star/", "tag/", "collect/", "comments/",
           "comments/1/delete/", "changes/00000000-0000-0000-0000-000000000000/undo/"]  # fmt: skip


def shown(feature: Feature) -> str | None:
    label = Feature.objects.select_related("label").get(pk=feature.pk).label
    return label.text if label else None


@pytest.mark.parametrize("action", ACTIONS)
def test_an_outsider_does_nothing(action: str, world: World, anonymous: Client) -> None:
    answer = anonymous.post(FEATURE + action, {"text": "x", "tag": "x", "collection": "x"})
    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/?next=")
    assert not Star.objects.exists()
    assert Label.objects.filter(text="x").count() == 0


@pytest.mark.parametrize("action", [*ACTIONS, "/undo/", "/selection/"])
def test_actions_are_posts_with_a_token(action: str, world: World) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(world.user)
    address = action if action.startswith("/") else FEATURE + action
    assert strict.get(address).status_code == 405
    assert strict.post(address).status_code == 403


def test_without_javascript_a_label_is_given_and_undone(named: Feature, as_bob: Client) -> None:
    answer = as_bob.post(f"{FEATURE}label/", {"text": "capitals", "next": f"{FEATURE}?run=1"}, follow=True)
    assert answer.redirect_chain == [(f"{FEATURE}?run=1", 302)]
    page = answer.content.decode()
    assert "Labelled." in page
    assert shown(named) == "capitals"
    answer = as_bob.post("/undo/", {"what": token_in(page), "next": FEATURE}, follow=True)
    assert shown(named) == "cities, by Ada"
    assert "1 feature shows what stood there before" in answer.content.decode()
    as_bob.post("/undo/", {"what": token_in(answer.content.decode()), "next": FEATURE})
    assert shown(named) == "capitals"


@pytest.mark.parametrize("address", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "\\\\evil", ""])
def test_nobody_is_sent_to_another_site(address: str, named: Feature, as_bob: Client) -> None:
    answer = as_bob.post(f"{FEATURE}star/", {"on": "1", "next": address})
    assert answer["Location"] == FEATURE


def test_a_form_comes_back_to_its_page_unless_that_has_an_endless_address(named: Feature, as_bob: Client) -> None:
    address = f"{FEATURE}people/"
    assert f'name="next" value="{address}?run=1"' in as_bob.get(f"{address}?run=1").content.decode()
    assert f'name="next" value="{address}"' in as_bob.get(f"{address}?x={'y' * 3000}").content.decode()


def test_in_place_the_title_the_head_and_the_toast_come_back(named: Feature, as_bob: Client) -> None:
    part = as_bob.post(
        f"{FEATURE}label/", {"text": "capitals", "explanation": "of states"}, headers=HTMX
    ).content.decode()
    assert "<html" not in part
    for place in ("feature-title", "people-head", "people"):
        assert re.search(rf'id="{place}"[^>]*hx-swap-oob="true"', part), place
    assert 'hx-swap-oob="innerHTML:#toast"' in part
    assert part.count("capitals") >= 3
    assert "of states" in part
    undone = as_bob.post("/undo/", {"what": token_in(part), "feature": f"tiny-lm-l6/{NAMED}"}, headers=HTMX)
    assert "cities, by Ada" in undone.content.decode()
    assert shown(named) == "cities, by Ada"


@pytest.mark.parametrize("headers", [{}, HTMX])
@pytest.mark.parametrize(
    ("action", "form", "sentence"),
    [
        ("label/", {"text": "x" * 201, "explanation": "long thought"}, "200 characters; this has 201"),
        ("label/", {"text": "", "explanation": "long thought"}, "at least one character"),
        ("tag/", {"tag": "no/slash"}, "“/” is none of them"),
        ("collect/", {"collection": "y" * 121}, "120 characters"),
        ("comments/", {"text": "z" * 4001}, "4,000 characters"),
    ],
)
def test_a_refusal_keeps_what_was_typed(
    action: str, form: dict[str, str], sentence: str, headers: dict[str, str], named: Feature, as_bob: Client
) -> None:
    answer = as_bob.post(FEATURE + action, form, headers=headers)
    assert answer.status_code == 422
    page = answer.content.decode()
    assert sentence in page
    for typed in form.values():
        assert typed in page
    assert not Tagging.objects.exists()
    assert not Comment.objects.exists()
    assert shown(named) == "cities, by Ada"


def test_hostile_words_are_text(named: Feature, as_bob: Client) -> None:
    script = "<script>alert(1)</script>"
    Label.objects.create(
        feature=named, text=HOSTILE, explanation=HOSTILE, source="model", explainer=script, method=script
    )
    labelling.show(named.labels.last(), None)  # type: ignore[arg-type]  # of the log: nobody
    Comment.objects.create(feature=named, text=HOSTILE)
    as_bob.post(f"{FEATURE}collect/", {"collection": script})
    as_bob.post(f"{FEATURE}label/", {"text": script, "explanation": script})
    as_bob.post(f"{FEATURE}comments/", {"text": script})
    for address in (
        f"{FEATURE}people/",
        "/collections/",
        "/collections/scriptalert1script/",
        "/collections/-/options/",
    ):
        page = as_bob.get(address).content.decode()
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)" in page
        assert "\u202e" not in page
    refused = as_bob.post(f"{FEATURE}tag/", {"tag": HOSTILE}, headers=HTMX).content.decode()
    assert "<script>alert" not in refused


def test_votes_show_older_labels_and_withdraw(world: World, named: Feature, as_bob: Client) -> None:
    first = named.labels.get()
    as_bob.post(f"{FEATURE}label/", {"text": "other"})
    part = as_bob.post(f"{FEATURE}labels/{first.pk}/vote/", {"value": "1"}, headers=HTMX).content.decode()
    assert "▲ 1" in part
    assert Vote.objects.get().value == 1
    assert as_bob.post(f"{FEATURE}labels/{first.pk}/vote/", {"value": "3"}).status_code == 422
    as_bob.post(f"{FEATURE}labels/{first.pk}/vote/", {"value": "0"})
    assert not Vote.objects.exists()
    as_bob.post(f"{FEATURE}labels/{first.pk}/show/")
    assert shown(named) == "cities, by Ada"
    as_bob.post(f"{FEATURE}label/withdraw/")
    assert shown(named) is None
    batch = named.label_changes.latest("pk").batch
    as_bob.post(f"{FEATURE}changes/{batch}/undo/")
    assert shown(named) == "cities, by Ada"
    other = f"/saes/tiny-lm-l6/features/{DEAD}/"
    for pk in (first.pk, 10**30):
        assert as_bob.post(f"{other}labels/{pk}/show/").status_code == 404
        assert as_bob.post(f"{other}labels/{pk}/vote/", {"value": "1"}).status_code == 404


def test_stars_and_tags_go_on_and_off_and_back(named: Feature, bob: User, as_bob: Client) -> None:
    for _ in range(2):  # sent twice, done once
        part = as_bob.post(f"{FEATURE}star/", {"on": "1"}, headers=HTMX).content.decode()
    assert Star.objects.filter(user=bob, feature=named).count() == 1
    assert 'aria-pressed="true"' in part
    part = as_bob.post(f"{FEATURE}tag/", {"tag": "Rare, two words"}, headers=HTMX).content.decode()
    assert "two-words" in part
    as_bob.post("/undo/", {"what": token_in(part)})
    assert not Tagging.objects.exists()
    as_bob.post(f"{FEATURE}tag/", {"tag": "rare"})
    part = as_bob.post(f"{FEATURE}tag/", {"off": "rare"}, headers=HTMX).content.decode()
    assert not Tagging.objects.exists()
    as_bob.post("/undo/", {"what": token_in(part)})
    assert Tagging.objects.get().tag.name == "rare"
    assert '<option value="rare">' in as_bob.get("/tags/").content.decode()


def test_comments(world: World, named: Feature, bob: User, as_bob: Client, client_in: Client, as_staff: Client) -> None:
    as_bob.post(f"{FEATURE}comments/", {"text": "Only in\ncapitals?"})
    row = Comment.objects.get()
    assert row.author == bob
    delete = f"{FEATURE}comments/{row.pk}/delete/"
    assert delete not in client_in.get(f"{FEATURE}people/").content.decode()
    assert client_in.post(delete).status_code == 403
    assert as_bob.post(f"/saes/tiny-lm-l6/features/{DEAD}/comments/{row.pk}/delete/").status_code == 404
    page = as_bob.post(delete, follow=True).content.decode()
    people = as_bob.get(f"{FEATURE}people/").content.decode()
    assert "A comment was deleted." in people
    assert "capitals?" not in people
    assert "Only in" not in Comment.objects.get().text
    as_bob.post("/undo/", {"what": token_in(page)})
    assert Comment.objects.get().text == "Only in\ncapitals?"
    as_staff.post(delete)
    assert Comment.objects.get().deleted_at is not None


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_an_undo_is_for_one_person_and_not_to_be_made_up(
    headers: dict[str, str], named: Feature, as_bob: Client, client_in: Client
) -> None:
    part = as_bob.post(f"{FEATURE}star/", {"on": "1"}, headers=HTMX).content.decode()
    for client, what in ((client_in, token_in(part)), (as_bob, "made:up"), (as_bob, ""), (as_bob, "\x00")):
        assert client.post("/undo/", {"what": what}, headers=headers).status_code == (422 if headers else 302)
    assert Star.objects.count() == 1


def test_the_page_of_labels_is_there_without_javascript(named: Feature, as_bob: Client) -> None:
    page = as_bob.get(f"{FEATURE}people/").content.decode()
    assert "<html" in page
    assert "cities, by Ada" in page
    part = as_bob.get(f"{FEATURE}people/", headers=HTMX)
    assert "<html" not in part.content.decode()
    assert "HX-Request" in part["Vary"]


@pytest.mark.parametrize("n", [1, 30])
def test_queries_do_not_grow_with_what_people_say(
    n: int, named: Feature, bob: User, as_bob: Client, django_assert_num_queries: Any
) -> None:
    for number in range(n):
        labelling.give([named], f"label {number}", bob)
        notes.comment(named, f"comment {number}", bob)
    with django_assert_num_queries(8):  # session, user, SAE, feature, head, labels, changes, comments
        as_bob.get(f"{FEATURE}people/")
