"""People's part of the API: a key acts as the person who made it, under the rules that pages are under."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from features.models import ApiKey, Collection, Comment, Feature, Star
from tests import factories
from tests.factories import DEAD, NAMED, TIED, World

FEATURE = f"/api/v1/saes/tiny-lm-l6/features/{NAMED}"


class Program:
    """Somebody's script, with a key."""

    def __init__(self, user: User) -> None:
        self.headers = {"X-API-Key": ApiKey.objects.issue(user, "script")[1]}

    def send(self, method: str, path: str, body: Any = None) -> Any:
        client: Any = Client(enforce_csrf_checks=True)
        path = path if path.startswith("/api") else f"/api/v1{path}"
        data = {} if body is None else {"data": body, "content_type": "application/json"}
        return getattr(client, method)(path, headers=self.headers, **data)


@pytest.fixture
def bob(world: World) -> Program:
    return Program(factories.make_user("bob"))


@pytest.fixture
def ada(world: World) -> Program:
    return Program(world.user)


def shown(index: int) -> str | None:
    label = Feature.objects.select_related("label").get(sae__slug="tiny-lm-l6", index=index).label
    return label.text if label else None


def test_labels_are_given_listed_voted_on_and_undone(bob: Program, ada: Program) -> None:
    made = bob.send("post", f"{FEATURE}/labels", {"text": "capitals", "explanation": "of states"}).json()
    assert (made["changed"], made["unchanged"]) == (1, 0)
    assert bob.send("post", f"{FEATURE}/labels", {"text": "capitals"}).json()["changed"] == 0
    first, second = ada.send("get", f"{FEATURE}/labels").json()
    assert (first["text"], first["author"], first["shown"], first["explanation"]) == (
        "capitals", "bob", True, "of states"
    )  # fmt: skip
    assert (second["text"], second["author"], second["shown"]) == ("cities, by Ada", "ada", False)
    assert ada.send("put", f"/labels/{first['id']}/vote", {"value": -1}).status_code == 204
    (first, _) = ada.send("get", f"{FEATURE}/labels").json()
    assert (first["yes"], first["no"], first["mine"]) == (0, 1, -1)
    assert ada.send("put", f"/labels/{first['id']}/vote", {"value": 7}).status_code == 422
    undone = ada.send("post", "/undo", {"batch": made["batch"]}).json()
    assert (undone["reverted"], undone["stayed"]) == (1, 0)
    assert shown(NAMED) == "cities, by Ada"
    assert ada.send("post", f"/labels/{first['id']}/show").json()["changed"] == 1
    assert ada.send("delete", f"{FEATURE}/label").json()["changed"] == 1
    assert shown(NAMED) is None
    changes = ada.send("get", f"{FEATURE}/changes").json()
    assert [(c["before"], c["after"], c["author"], c["undoes"]) for c in changes] == [
        ("capitals", None, "ada", False),
        ("cities, by Ada", "capitals", "ada", False),
        ("capitals", "cities, by Ada", "ada", True),
        ("cities, by Ada", "capitals", "bob", False),
    ]


def test_many_are_labelled_at_once(bob: Program) -> None:
    names = [f"tiny-lm-l6/{index}" for index in (DEAD, NAMED, TIED)]
    made = bob.send("post", "/labels", {"features": names, "text": "places"}).json()
    assert made["changed"] == 3
    assert bob.send("post", "/undo", {"batch": made["batch"]}).json()["reverted"] == 3


def test_a_rules_label_says_how_precise_it_is(bob: Program) -> None:
    (rule,) = bob.send("get", f"/saes/tiny-lm-l6/features/{TIED}/labels").json()
    assert (rule["source"], rule["rule"], rule["precision"], rule["author"]) == ("rule", "token", 9 / 11, None)


def test_stars_tags_and_comments(world: World, bob: Program, ada: Program) -> None:
    for _ in range(2):
        assert bob.send("put", f"{FEATURE}/star").status_code == 204
    assert Star.objects.get().user.username == "bob"
    ada.send("delete", f"{FEATURE}/star")
    assert Star.objects.count() == 1
    bob.send("delete", f"{FEATURE}/star")
    assert not Star.objects.exists()
    assert bob.send("post", f"{FEATURE}/tags", {"tags": ["Two Words", "a"]}).json() == ["a", "two-words"]
    assert ada.send("delete", f"{FEATURE}/tags/two-words").status_code == 204
    assert ada.send("delete", f"{FEATURE}/tags/two-words").status_code == 404
    assert ada.send("get", f"{FEATURE}/tags").json() == ["a"]
    made = bob.send("post", f"{FEATURE}/comments", {"text": "Why?"}).json()
    refused = ada.send("delete", f"/comments/{made['id']}")
    assert (refused.status_code, refused.json()["detail"]) == (
        403,
        "Only whoever wrote a comment, and administrators, may delete it.",
    )
    assert bob.send("delete", f"/comments/{made['id']}").status_code == 204
    (left,) = ada.send("get", f"{FEATURE}/comments").json()
    assert (left["text"], left["author"], left["deleted"]) == ("", "bob", True)
    assert Comment.objects.get().text == ""


def test_collections(world: World, bob: Program, ada: Program) -> None:
    made = bob.send("post", "/collections", {"name": "Rare words"}).json()
    assert (made["slug"], made["owner"], made["shared"], made["n_features"]) == ("rare-words", "bob", False, 0)
    place = "/collections/rare-words"
    for method, path, body in (
        ("get", place, None),
        ("patch", place, {"name": "Mine"}),
        ("delete", place, None),
        ("post", f"{place}/features", {"features": ["tiny-lm-l6/3"]}),
    ):
        assert ada.send(method, path, body).status_code == 404
    assert ada.send("get", "/collections").json() == []
    added = bob.send("post", f"{place}/features", {"features": ["tiny-lm-l6/3", "tiny-lm-l6/5", "tiny-lm-l6/3"]})
    assert added.json() == {"added": 2, "there": 0}
    bob.send("patch", place, {"shared": True, "description": "For all"})
    assert ada.send("post", f"{place}/features", {"features": ["tiny-lm-l6/5", "tiny-lm-l6/7"]}).json() == {
        "added": 1, "there": 1
    }  # fmt: skip
    assert bob.send("patch", f"{place}/features/tiny-lm-l6/7", {"note": "see", "move": "up"}).status_code == 204
    found = ada.send("get", place).json()
    assert (found["name"], found["description"], found["n_features"]) == ("Rare words", "For all", 3)
    assert [(f["index"], f["note"], f["added_by"]) for f in found["features"]] == [
        (3, "", "bob"), (7, "see", "ada"), (5, "", "bob")
    ]  # fmt: skip
    assert ada.send("patch", f"{place}/features/tiny-lm-l6/3", {"note": "no"}).status_code == 403
    assert ada.send("patch", f"{place}/features/tiny-lm-l6/7", {"move": "sideways"}).status_code == 422
    assert ada.send("delete", f"{place}/features/tiny-lm-l6/3").status_code == 403
    assert ada.send("delete", f"{place}/features/tiny-lm-l6/7").status_code == 204
    assert ada.send("delete", f"{place}/features/tiny-lm-l6/7").status_code == 404
    assert ada.send("delete", place).status_code == 403
    assert bob.send("delete", place).status_code == 204
    assert not Collection.objects.exists()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("post", f"{FEATURE}/labels", {"text": "x" * 201}, 422),
        ("post", f"{FEATURE}/labels", {"text": "half\ud800"}, 422),
        ("post", f"{FEATURE}/labels", {"text": "nul\x00"}, 422),
        ("post", f"{FEATURE}/labels", {}, 422),
        ("post", "/labels", {"features": [], "text": "x"}, 422),
        ("post", "/labels", {"features": ["tiny-lm-l6/99"], "text": "x"}, 422),
        ("post", "/undo", {"batch": "x"}, 422),
        ("post", "/undo", {"batch": "00000000-0000-0000-0000-000000000000"}, 404),
        ("post", f"/labels/{10**30}/show", None, 404),
        ("post", "/labels/-1/show", None, 404),
        ("post", f"{FEATURE}/tags", {"tags": ["<b>"]}, 422),
        ("post", f"{FEATURE}/tags", {"tags": [""]}, 422),
        ("post", f"{FEATURE}/comments", {"text": " "}, 422),
        ("delete", f"/comments/{10**30}", None, 404),
        ("post", "/collections", {"name": "\x00"}, 422),
        ("get", "/collections/none", None, 404),
        ("get", "/collections/a%00b", None, 404),
        ("put", "/api/v1/saes/nope/features/1/star", None, 404),
        ("put", "/api/v1/saes/tiny-lm-l6/features/99/star", None, 404),
    ],
)
def test_what_is_wrong_is_said_and_nothing_written(
    method: str, path: str, body: Any, status: int, bob: Program
) -> None:
    answer = bob.send(method, path, body)
    assert answer.status_code == status
    assert answer.json()["detail"].endswith(".")
    assert shown(NAMED) == "cities, by Ada"
    assert not Star.objects.exists()


def test_nobody_writes_without_a_key_or_a_token(world: World, anonymous: Client) -> None:
    assert anonymous.put(f"{FEATURE}/star").status_code == 401
    signed_in = Client(enforce_csrf_checks=True)
    signed_in.force_login(world.user)
    assert signed_in.put(f"{FEATURE}/star").status_code == 403
    assert not Star.objects.exists()


def test_a_body_that_is_not_json_is_refused_in_a_sentence(ada: Program) -> None:
    for body in (b"{", b"\xff", b"\0"):
        response = ada.send("post", f"{FEATURE}/labels", body)
        assert response.status_code == 422
        assert response.json() == {"detail": "The body is not JSON."}
