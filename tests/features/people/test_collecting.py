"""Collections: who may see, change and fill them, and in which order they are."""

import pytest
from django.contrib.auth.models import User

from features.evidence import NotFound
from features.knowledge import collecting, naming
from features.knowledge.rules import NotAllowed, Refused
from features.models import Collection, Feature
from tests.factories import World


@pytest.fixture
def keys(world: World) -> list[int]:
    return list(Feature.objects.filter(sae=world.sae).order_by("index").values_list("pk", flat=True))


def held(collection: Collection) -> list[int]:
    return list(collection.items.values_list("feature_id", flat=True))


def test_slugs_are_made_of_names_and_stay(bob: User) -> None:
    slugs = [collecting.create(bob, name).slug for name in ("Rare words", "rare  WORDS", "日本", "日本")]
    assert slugs == ["rare-words", "rare-words-2", "collection", "collection-2"]
    first = Collection.objects.get(slug="rare-words")
    collecting.edit(first, bob, name="Common words", description="", shared=True)
    assert (first.slug, str(first)) == ("rare-words", "Common words")
    for name in ("", "\x00", "x" * 121):
        with pytest.raises(Refused):
            collecting.create(bob, name)


def test_a_private_one_is_not_found_by_others(world: World, bob: User, staff: User) -> None:
    own = collecting.create(bob, "Secret")
    for user in (world.user, staff):
        with pytest.raises(NotFound):
            collecting.find_collection("secret", user)
    assert collecting.find_collection("secret", bob) == own
    bob.delete()
    with pytest.raises(NotFound):
        collecting.find_collection("secret", world.user)
    assert collecting.find_collection("secret", staff).owner is None


def test_the_owner_and_staff_change_it_and_others_add(world: World, bob: User, staff: User, keys: list[int]) -> None:
    shared = collecting.create(bob, "Shared", shared=True)
    collecting.add(shared, keys[:2], bob)
    assert collecting.add(shared, keys[1:3], world.user) == [keys[2]]
    first, second, third = shared.items.all()
    for forbidden in (
        lambda: collecting.edit(shared, world.user, name="Mine", description="", shared=True),
        lambda: collecting.delete(shared, world.user),
        lambda: collecting.move(shared, first, world.user, up=False),
        lambda: collecting.annotate(shared, first, "no", world.user),
        lambda: collecting.remove(shared, [keys[0], keys[2]], world.user),
    ):
        with pytest.raises(NotAllowed):
            forbidden()
    assert held(shared) == keys[:3]
    collecting.annotate(shared, third, "  by\nme ", world.user)
    third.refresh_from_db()
    assert third.note == "by me"
    (gone,) = collecting.remove(shared, [keys[2]], world.user)
    assert (gone.feature, gone.note, gone.added_by) == (keys[2], "by me", world.user.pk)
    collecting.remove(shared, [keys[1]], staff)
    assert held(shared) == keys[:1]
    assert second.feature_id == keys[1]


def test_order_is_moved_and_kept(bob: User, keys: list[int]) -> None:
    own = collecting.create(bob, "Own")
    collecting.add(own, [keys[3], keys[1], keys[2], keys[1]], bob)
    assert held(own) == [keys[3], keys[1], keys[2]]
    assert collecting.move(own, own.items.get(feature=keys[2]), bob, up=True)
    assert held(own) == [keys[3], keys[2], keys[1]]
    assert not collecting.move(own, own.items.get(feature=keys[3]), bob, up=True)
    gone = collecting.remove(own, [keys[2]], bob)
    assert collecting.move(own, own.items.get(feature=keys[1]), bob, up=True)
    assert held(own) == [keys[1], keys[3]]
    collecting.put_back(own, gone)
    assert held(own) == [keys[1], keys[2], keys[3]]
    gone = collecting.remove(own, [keys[3]], bob)
    collecting.add(own, [keys[5]], bob)
    collecting.put_back(own, gone)  # its place was taken
    assert held(own) == [keys[1], keys[2], keys[5], keys[3]]
    assert collecting.put_back(own, gone) == []


def test_a_collection_has_an_end(bob: User, keys: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "MOST", 3)
    own = collecting.create(bob, "Own")
    with pytest.raises(Refused, match="at most 3 features"):
        collecting.add(own, keys[:4], bob)
    collecting.add(own, keys[:3], bob)
    assert held(own) == keys[:3]


def test_one_is_found_by_slug_or_name_or_made(world: World, bob: User) -> None:
    made, new = collecting.find_or_create("Rare words", bob)
    assert new
    assert not made.shared
    assert collecting.find_or_create("rare WORDS", bob) == (made, False)
    assert collecting.find_or_create("rare-words", bob) == (made, False)
    other, new = collecting.find_or_create("Rare words", world.user)
    assert new
    assert other.slug == "rare-words-2"
    Collection.objects.update(shared=True)
    assert collecting.find_or_create("Rare words", world.user) == (other, False)
    collecting.create(bob, "Rare words")
    with pytest.raises(Refused, match="write rare-words-3 or rare-words for"):
        collecting.find_or_create("Rare words", bob)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("a/3, a/17", [("a", 3), ("a", 17)]),
        (" a/3\n b-c/4;a/3 ", [("a", 3), ("b-c", 4)]),
        ("3 a/4", [("here", 3), ("a", 4)]),
    ],
)
def test_lists_of_features(text: str, names: list[tuple[str, int]]) -> None:
    assert naming.names_in(text, sae="here") == names


@pytest.mark.parametrize(
    "text", ["", " , ", "a/", "a/x", "/3", "a/-1", "a/1/2", "a b", "a/³", "3", "a/3\x00", "9" * 5000]
)
def test_what_names_no_feature_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        naming.names_in(text)


def test_features_are_found_in_their_order(world: World) -> None:
    found = naming.find_named([("tiny-lm-l6", 9), ("tiny-lm-l6", 0)])
    assert [(feature.sae.slug, feature.index) for feature in found] == [("tiny-lm-l6", 9), ("tiny-lm-l6", 0)]
    with pytest.raises(Refused, match="no feature 24: they are numbered from 0 to 23"):
        naming.find_named([("tiny-lm-l6", 24)])
    with pytest.raises(Refused, match="no SAE “nope”"):
        naming.find_named([("nope", 0)])
