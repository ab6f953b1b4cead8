"""Stars, tags and comments."""

import pytest
from django.contrib.auth.models import User

from features.knowledge import notes, rules
from features.knowledge.people import People, knowledge_of, people_of
from features.knowledge.rules import NotAllowed, Refused
from features.models import Comment, Feature, Star, Tagging
from features.roles import role_of
from tests.factories import NAMED, World


def tags_of(feature: Feature, user: User) -> list[str]:
    return people_of(feature, user).tags


def test_stars_are_ones_own(world: World, named: Feature, bob: User) -> None:
    other = Feature.objects.get(sae=world.sae, index=9)
    assert notes.star([named.pk], bob) == [named.pk]
    assert notes.star([named.pk, other.pk], bob) == [other.pk]
    assert people_of(named, bob).starred
    assert not people_of(named, world.user).starred
    assert set(notes.unstar([named.pk, other.pk], world.user)) == set()
    assert set(notes.unstar([named.pk, other.pk], bob)) == {named.pk, other.pk}
    assert Star.objects.count() == 0


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Rare Words", ["rare-words"]),
        ("a,  b c ,a", ["a", "b-c"]),
        ("snake_case--twice", ["snake-case-twice"]),
        (" -edge- ", ["edge"]),
        ("ÉTÉ, 日本語, हिन्दी", ["été", "日本語", "हिन्दी"]),
        ("ﬁne", ["fine"]),
    ],
)
def test_tags_have_one_form(text: str, names: list[str]) -> None:
    assert rules.tag_names(text) == names


@pytest.mark.parametrize("text", ["", " , ,", "<b>", "a/b", "a\x00b", "-", "x" * 41, "a\u202eb", "it's"])
def test_what_is_no_tag_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        rules.tag_names(text)


def test_tags_are_everybodys_and_at_most_twenty(world: World, named: Feature, bob: User) -> None:
    first = [f"t{n}" for n in range(19)]
    assert notes.tag([named.pk], first, bob)["t0"] == [named.pk]
    new = notes.tag([named.pk], ["t0", "last"], world.user)
    assert new == {"t0": [], "last": [named.pk]}
    other = Feature.objects.get(sae=world.sae, index=9)
    with pytest.raises(Refused, match=f"Feature {NAMED} would bear 21 tags; 20"):
        notes.tag([other.pk, named.pk], ["one-more"], bob)
    assert not Tagging.objects.filter(tag__name="one-more").exists()
    assert tags_of(named, bob) == sorted([*first, "last"])
    assert notes.untag([named.pk, other.pk], "last") == [named.pk]
    assert notes.untag([named.pk], "last") == []


def test_comments_are_deleted_by_their_author_or_staff(world: World, named: Feature, bob: User, staff: User) -> None:
    first, second = notes.comment(named, "One\n\ntwo ", bob), notes.comment(named, "Other", bob)
    assert first.text == "One\n\ntwo"
    with pytest.raises(NotAllowed):
        notes.delete_comment(first, world.user)
    assert notes.delete_comment(first, bob) == "One\n\ntwo"
    assert notes.delete_comment(first, bob) == ""
    assert notes.delete_comment(second, staff) == "Other"
    assert list(Comment.objects.values_list("text", flat=True)) == ["", ""]
    assert len(knowledge_of(named, bob).comments) == 2
    assert people_of(named, bob).n_comments == 0
    with pytest.raises(NotAllowed):
        notes.restore_comment(second, "Other", world.user)
    assert notes.restore_comment(second, "Other", bob)
    assert not notes.restore_comment(second, "Twice", bob)
    assert Comment.objects.get(pk=second.pk).text == "Other"


@pytest.mark.parametrize("text", ["", " \n ", "x" * 4001, "\x07"])
def test_a_comment_that_says_nothing_is_refused(named: Feature, bob: User, text: str) -> None:
    with pytest.raises(Refused):
        notes.comment(named, text, bob)


def test_people_of_is_one_query(named: Feature, bob: User, django_assert_num_queries: object) -> None:
    notes.star([named.pk], bob)
    notes.tag([named.pk], ["b", "a"], bob)
    notes.comment(named, "Hm", bob)
    role_of(bob)  # which a request reads along with its user
    with django_assert_num_queries(1):  # type: ignore[operator]
        found = people_of(named, bob)
    assert found == People(starred=True, tags=["a", "b"], collections=[], n_labels=1, n_comments=1)
    with django_assert_num_queries(3):  # type: ignore[operator]
        knowledge_of(named, bob)
