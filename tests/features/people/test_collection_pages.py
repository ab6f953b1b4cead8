"""The pages of collections, and the files they are exported to."""

import csv
import io
import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from features.knowledge import collecting, exporting, labelling, notes, shelf
from features.models import Collection, Feature
from tests import factories
from tests.factories import DEAD, HOSTILES, NAMED, World
from tests.features.people.helpers import HTMX, token_in

PAGE = "/collections/places/"


@pytest.fixture
def places(world: World, bob: User) -> Collection:
    """Bob's, shared: NAMED, which he put in, and DEAD, which the world's user did."""
    made = collecting.create(bob, "Places", "Where?", shared=True)
    for index, user in ((NAMED, bob), (DEAD, world.user)):
        collecting.add(made, [Feature.objects.get(sae=world.sae, index=index).pk], user)
    return made


def indexes(collection: Collection) -> list[int]:
    return list(collection.items.values_list("feature__index", flat=True))


@pytest.mark.parametrize(
    "address", ["/collections/", PAGE, f"{PAGE}delete/", f"{PAGE}export.csv", f"{PAGE}export.json", "/tags/",
                "/collections/-/options/", f"/saes/tiny-lm-l6/features/{NAMED}/people/"]
)  # fmt: skip
def test_an_outsider_is_sent_to_sign_in(address: str, places: Collection, anonymous: Client) -> None:
    answer = anonymous.get(address)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/?next=")


def test_a_private_one_is_its_owners_alone(
    places: Collection, as_bob: Client, client_in: Client, as_staff: Client
) -> None:
    Collection.objects.update(shared=False)
    item = places.items.get(feature__index=DEAD)
    for client in (client_in, as_staff):
        for address in (PAGE, f"{PAGE}delete/", f"{PAGE}export.csv", f"{PAGE}export.json"):
            assert client.get(address).status_code == 404
        for address in (f"{PAGE}edit/", f"{PAGE}delete/", f"{PAGE}add/", f"{PAGE}items/{item.pk}/"):
            assert client.post(address, {"do": "out", "name": "x", "features": "tiny-lm-l6/3"}).status_code == 404
        assert "Places" not in client.get("/collections/").content.decode()
        assert "Places" not in client.get("/collections/-/options/").content.decode()
        assert "Places" not in client.get(f"/saes/tiny-lm-l6/features/{NAMED}/people/").content.decode()
    assert as_bob.get(PAGE).status_code == 200
    assert indexes(places) == [NAMED, DEAD]


def test_others_see_a_shared_one_add_to_it_and_change_nothing(places: Collection, client_in: Client) -> None:
    page = client_in.get(PAGE).content.decode()
    assert f"{PAGE}edit/" not in page
    assert f"{PAGE}delete/" not in page
    mine, theirs = places.items.get(feature__index=DEAD), places.items.get(feature__index=NAMED)
    assert f"{PAGE}items/{mine.pk}/" in page
    assert client_in.post(f"{PAGE}add/", {"features": "tiny-lm-l6/9, tiny-lm-l6/10"}).status_code == 302
    assert indexes(places) == [NAMED, DEAD, 9, 10]
    for address, form in (
        (f"{PAGE}edit/", {"name": "Mine"}),
        (f"{PAGE}delete/", {}),
        (f"{PAGE}items/{theirs.pk}/", {"do": "out"}),
        (f"{PAGE}items/{theirs.pk}/", {"do": "note", "note": "no"}),
        (f"{PAGE}items/{mine.pk}/", {"do": "up"}),
    ):
        assert client_in.post(address, form).status_code == 403
    assert client_in.get(f"{PAGE}delete/").status_code == 403
    client_in.post(f"{PAGE}items/{mine.pk}/", {"do": "out"})
    assert indexes(places) == [NAMED, 9, 10]


def test_make_rename_share_and_delete(world: World, bob: User, as_bob: Client, as_staff: Client) -> None:
    answer = as_bob.post("/collections/", {"name": "Rare words", "description": "of <b>note</b>"}, follow=True)
    page = answer.content.decode()
    assert answer.redirect_chain == [("/collections/rare-words/", 302)]
    assert "only you see it" in page
    assert "&lt;b&gt;note&lt;/b&gt;" in page
    as_bob.post("/collections/rare-words/edit/", {"name": "Rarer", "description": "", "shared": "1"})
    assert "Rarer" in as_staff.get("/collections/").content.decode()
    as_staff.post("/collections/rare-words/edit/", {"name": "Rarer", "description": "by staff", "shared": "1"})
    assert Collection.objects.get().description == "by staff"
    assert "cannot be brought back" in as_bob.get("/collections/rare-words/delete/").content.decode()
    assert Collection.objects.exists()
    assert as_bob.post("/collections/rare-words/delete/", follow=True).status_code == 200
    assert not Collection.objects.exists()


def test_refusals_keep_what_was_typed(places: Collection, as_bob: Client) -> None:
    answer = as_bob.post("/collections/", {"name": "x" * 121, "description": "long thought"})
    assert answer.status_code == 422
    assert "long thought" in answer.content.decode()
    answer = as_bob.post(f"{PAGE}add/", {"features": "tiny-lm-l6/3, tiny-lm-l6/99"})
    assert answer.status_code == 422
    assert "tiny-lm-l6/3, tiny-lm-l6/99" in answer.content.decode()
    assert "no feature 99" in answer.content.decode()
    answer = as_bob.post(f"{PAGE}edit/", {"name": " ", "description": "long thought"})
    assert answer.status_code == 422
    assert "long thought" in answer.content.decode()
    assert Collection.objects.get().description == "Where?"
    assert indexes(places) == [NAMED, DEAD]


@pytest.mark.parametrize("headers", [{}, HTMX])
def test_items_are_moved_noted_taken_out_and_put_back(
    headers: dict[str, str], places: Collection, as_bob: Client
) -> None:
    named = f"{PAGE}items/{places.items.get(feature__index=NAMED).pk}/"
    page = as_bob.post(named, {"do": "down"}, headers=headers, follow=True).content.decode()
    assert indexes(places) == [DEAD, NAMED]
    assert ("<html" in page) is not bool(headers)
    as_bob.post(named, {"do": "note", "note": " the <b>best</b>"}, headers=headers)
    assert places.items.get(feature__index=NAMED).note == "the <b>best</b>"
    long = as_bob.post(named, {"do": "note", "note": "x" * 501}, headers=headers)
    assert long.status_code == 422
    page = as_bob.post(named, {"do": "out"}, headers=headers, follow=True).content.decode()
    assert indexes(places) == [DEAD]
    as_bob.post("/undo/", {"what": token_in(page)})
    assert indexes(places) == [DEAD, NAMED]
    assert places.items.get(feature__index=NAMED).note == "the <b>best</b>"
    assert as_bob.post(named, {"do": "burn"}).status_code == 404
    for pk in (0, 10**30):
        assert as_bob.post(f"{PAGE}items/{pk}/", {"do": "out"}).status_code == 404


def test_a_long_one_has_pages_that_show_each_feature_once(
    world: World, bob: User, as_bob: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "ROWS", 10)
    own = collecting.create(bob, "All")
    keys = list(Feature.objects.filter(sae=world.sae).order_by("-index").values_list("pk", flat=True))
    collecting.add(own, keys, bob)
    seen, after = [], ""
    for _ in range(3):
        page = as_bob.get(f"/collections/all/?after={after}").context["page"]
        seen += [shown.row.feature.index for shown in page.rows]
        after = page.next
    assert not after
    assert seen == list(range(23, -1, -1))
    for odd in ("x", "-1", "9" * 30, "%00", "²"):
        assert as_bob.get(f"/collections/all/?after={odd}").status_code == 200


def test_a_table_of_the_same_if_there_can_be_one(world: World, bob: User, places: Collection, as_bob: Client) -> None:
    assert f"/saes/tiny-lm-l6/features/?ids={NAMED},{DEAD}" in as_bob.get(PAGE).content.decode()
    others = factories.make_features(factories.make_sae(world.model, "other", d_sae=2))
    collecting.add(places, [others[0].pk], bob)
    assert "?ids=" not in as_bob.get(PAGE).content.decode()


def test_files_hold_everything(world: World, bob: User, places: Collection, as_bob: Client) -> None:
    named = Feature.objects.get(sae=world.sae, index=NAMED)
    others = factories.make_features(factories.make_sae(world.model, "other", d_sae=2))
    collecting.add(places, [others[1].pk], bob)
    labelling.give([named], '=HYPERLINK("http://x"),\n1', bob, explanation="-1+2\nand more")
    notes.tag([named.pk], ["b", "a"], bob)
    collecting.annotate(places, places.items.get(feature=named), "@home", bob)
    answer = as_bob.get(f"{PAGE}export.csv")
    assert answer["Content-Disposition"] == 'attachment; filename="places.csv"'
    text = b"".join(answer.streaming_content).decode()  # type: ignore[attr-defined]
    first, second, third = csv.DictReader(io.StringIO(text, newline=""))
    assert (first["sae"], first["index"], first["tags"]) == ("tiny-lm-l6", str(NAMED), "a, b")
    assert first["label"] == '\'=HYPERLINK("http://x"), 1'
    assert first["explanation"] == "'-1+2\nand more"
    assert first["note"] == "'@home"
    activity = named.activities.get()
    assert float(first["density"]) == activity.density
    assert (second["label"], second["added_by"], second["density"]) == ("", "ada", "0.0")
    assert (third["sae"], third["index"], third["run"], third["density"]) == ("other", "1", "", "")
    answer = as_bob.get(f"{PAGE}export.json")
    found = json.loads(b"".join(answer.streaming_content))  # type: ignore[attr-defined]
    assert found["collection"]["name"] == "Places"
    assert [row["index"] for row in found["features"]] == [NAMED, DEAD, 1]
    assert found["features"][0]["label"] == '=HYPERLINK("http://x"), 1'
    assert found["features"][0]["tags"] == ["a", "b"]
    assert found["features"][2]["density"] is None


@pytest.mark.parametrize("text", ["=1", "+1", "-1", "@x", "\tx", "\rx", "\nx"])
def test_no_cell_is_a_formula(text: str) -> None:
    assert exporting.safe(text) == f"'{text}"
    assert exporting.safe(f"a{text}") == f"a{text}"
    assert exporting.safe(-1.5) == -1.5


def test_files_are_read_in_parts(
    world: World, bob: User, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any
) -> None:
    own = collecting.create(bob, "All")
    collecting.add(own, list(Feature.objects.filter(sae=world.sae).values_list("pk", flat=True)), bob)
    monkeypatch.setattr(exporting, "CHUNK", 10)
    with django_assert_max_num_queries(1 + 3 * 3 + 1):
        assert len(list(exporting.rows(own))) == 24


@pytest.mark.parametrize("n", [1, 24])
def test_queries_do_not_grow_with_features(
    n: int, world: World, bob: User, as_bob: Client, django_assert_max_num_queries: Any
) -> None:
    own = collecting.create(bob, "All")
    rows = Feature.objects.filter(sae=world.sae)[:n]
    collecting.add(own, [row.pk for row in rows], bob)
    as_bob.get("/collections/all/")
    with django_assert_max_num_queries(9):  # session, user, collection, items, four for lines, table
        as_bob.get("/collections/all/")
    with django_assert_max_num_queries(4):
        as_bob.get("/collections/")


def test_hostile_labels_of_items_are_text(world: World, bob: User, places: Collection, as_bob: Client) -> None:
    collecting.add(places, [Feature.objects.get(sae=world.sae, index=HOSTILES).pk], bob)
    page = as_bob.get(PAGE).content.decode()
    assert "<script>alert" not in page
    assert "\u202e" not in page
