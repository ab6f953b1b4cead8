"""Labels are added and never lost; what was done can be undone, and that again."""

from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from features.evidence import NotFound
from features.knowledge import labelling
from features.knowledge.people import knowledge_of
from features.knowledge.rules import Refused
from features.models import SAE, Feature, Label, LabelChange, Phrase, Vote
from features.search.meaning import nearest
from features.shown_labels import NONE, PERSON, RULE, labels_of
from tests import factories
from tests.factories import DEAD, NAMED, TIED, World


def shown(feature: Feature) -> str | None:
    label = Feature.objects.select_related("label").get(pk=feature.pk).label
    return label.text if label else None


def some(world: World, *indexes: int) -> list[Feature]:
    return list(Feature.objects.filter(sae=world.sae, index__in=indexes).order_by("index"))


def test_a_label_is_added_to_those_that_were_there(world: World, named: Feature, bob: User) -> None:
    batch = labelling.give([named], "  European \n capitals ", bob, explanation="Seen in\r\nnews. ")
    assert shown(named) == "European capitals"
    assert [label.text for label in named.labels.order_by("pk")] == ["cities, by Ada", "European capitals"]
    given = named.labels.last()
    assert given is not None
    assert (given.author, given.source, given.explanation) == (bob, "person", "Seen in\nnews.")
    change = LabelChange.objects.get(batch=batch)
    assert (change.sae, change.index, change.author) == (world.sae, NAMED, bob)
    assert (str(change.before), change.after) == ("cities, by Ada", given)
    assert nearest("European capitals", 1)[0].text == "European capitals"


def test_the_same_again_changes_nothing(world: World, bob: User) -> None:
    rows = some(world, 8, 9)
    labelling.give(rows, "verbs", bob, explanation="of motion")
    for explanation in (None, "of motion"):
        again = labelling.give(rows, " verbs ", bob, explanation=explanation)
        assert labelling.changes_of(again) == 0
    assert Label.objects.filter(text="verbs").count() == 2
    labelling.give(rows[:1], "verbs", bob, explanation="of thought")
    assert Label.objects.filter(text="verbs").count() == 3
    labelling.give(rows[:1], "verbs", world.user)
    assert Label.objects.filter(text="verbs").count() == 4


def test_a_label_that_one_gave_before_is_shown_again_and_not_written_twice(named: Feature, bob: User) -> None:
    labelling.give([named], "first", bob)
    labelling.give([named], "second", bob)
    batch = labelling.give([named], "first", bob)
    assert labelling.changes_of(batch) == 1
    assert shown(named) == "first"
    assert named.labels.count() == 3


def test_undo_and_redo(world: World, bob: User) -> None:
    rows = some(world, DEAD, NAMED, TIED)
    before = [shown(row) for row in rows]
    batch = labelling.give(rows, "places", bob)
    undone = labelling.undo(batch, bob)
    assert (undone.reverted, undone.stayed) == (3, 0)
    assert [shown(row) for row in rows] == before
    redone = labelling.undo(undone.batch, bob)
    assert [shown(row) for row in rows] == ["places"] * 3
    labelling.undo(redone.batch, bob)
    assert [shown(row) for row in rows] == before
    assert Label.objects.filter(text="places").count() == 3
    undoing = LabelChange.objects.filter(batch=undone.batch)
    assert set(undoing.values_list("undoes__batch", flat=True)) == {batch}


def test_what_was_changed_since_stays(world: World, bob: User) -> None:
    rows = some(world, 8, 9, 10)
    batch = labelling.give(rows, "places", bob)
    labelling.give(rows[:1], "rivers", world.user)
    labelling.withdraw(rows[1], world.user)
    undone = labelling.undo(batch, bob)
    assert (undone.reverted, undone.stayed) == (1, 2)
    assert [shown(row) for row in rows] == ["rivers", None, None]
    assert labelling.undo(batch, bob).reverted == 0


def test_undoing_twice_at_once_reverts_once(named: Feature, bob: User) -> None:
    batch = labelling.give([named], "twice", bob)
    assert [labelling.undo(batch, bob).reverted for _ in range(2)] == [1, 0]
    assert shown(named) == "cities, by Ada"


def test_a_batch_that_nobody_made_is_not_found(world: World, bob: User) -> None:
    with pytest.raises(NotFound, match="no such change"):
        labelling.undo(uuid4(), bob)


def test_show_and_withdraw(world: World, named: Feature, bob: User) -> None:
    first = named.labels.get()
    labelling.give([named], "other", bob)
    labelling.show(first, bob)
    assert shown(named) == "cities, by Ada"
    assert labelling.changes_of(labelling.show(first, bob)) == 0
    batch = labelling.withdraw(named, bob)
    assert shown(named) is None
    assert labelling.changes_of(labelling.withdraw(named, bob)) == 0
    assert named.labels.count() == 2
    labelling.undo(batch, bob)
    assert shown(named) == "cities, by Ada"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "at least one character"),
        (" \n\t ", "at least one character"),
        ("a\x00b", "U\\+0000"),
        ("right\u202eleft", "U\\+202E"),
        ("half\ud800", "U\\+D800"),
        ("x" * 201, "200 characters; this has 201"),
    ],
)
def test_refused_texts_write_nothing(world: World, named: Feature, bob: User, text: str, sentence: str) -> None:
    before = (Label.objects.count(), LabelChange.objects.count(), Phrase.objects.count())
    with pytest.raises(Refused, match=sentence):
        labelling.give([named], text, bob)
    if text.strip():
        with pytest.raises(Refused):
            labelling.give([named], "fine", bob, explanation=20 * text)
    assert (Label.objects.count(), LabelChange.objects.count(), Phrase.objects.count()) == before


def test_from_one_to_a_thousand_features_are_labelled_at_once(world: World, named: Feature, bob: User) -> None:
    for rows in ([], [named] * 1001):
        with pytest.raises(Refused, match="from 1 to 1,000"):
            labelling.give(rows, "x", bob)


def test_hostile_words_are_kept_as_they_are(named: Feature, bob: User) -> None:
    for text in ("<script>alert(1)</script>", "=1+1", "{{ x }}", "👩\u200d🔬 family", "'; DROP TABLE"):
        labelling.give([named], text, bob)
        assert shown(named) == text


def test_the_kinds_that_a_table_filters_by_follow(world: World, named: Feature, bob: User) -> None:
    def kind(index: int) -> int:
        return int(labels_of(SAE.objects.get(pk=world.sae.pk)).kinds[index])

    rows = some(world, DEAD, TIED)
    assert (kind(DEAD), kind(TIED)) == (NONE, RULE)
    batch = labelling.give(rows, "both", bob)
    assert (kind(DEAD), kind(TIED)) == (PERSON, PERSON)
    labelling.undo(batch, bob)
    assert (kind(DEAD), kind(TIED)) == (NONE, RULE)


def test_a_label_that_an_import_withdrew_is_there_again_when_somebody_shows_it(named: Feature, bob: User) -> None:
    old = named.labels.get()
    labelling.give([named], "other", bob)
    named.labels.filter(pk=old.pk).update(withdrawn_at=old.created_at)
    labelling.show(old, bob)
    old.refresh_from_db()
    assert old.withdrawn_at is None
    assert shown(named) == "cities, by Ada"


def test_a_batch_over_several_saes(world: World, bob: User) -> None:
    other = factories.make_sae(world.model, "other", d_sae=2)
    rows = [*factories.make_features(other), *some(world, NAMED)]
    batch = labelling.give(rows, "shared", bob)
    assert [shown(row) for row in rows] == ["shared"] * 3
    assert LabelChange.objects.filter(batch=batch, sae=other).count() == 2
    assert labelling.undo(batch, bob).reverted == 3


def test_history_outlives_a_label_that_goes_with_its_run(world: World, bob: User) -> None:
    (tied,) = some(world, TIED)
    batch = labelling.give([tied], "mine", bob)
    tied.labels.filter(source="rule").delete()
    assert labelling.undo(batch, bob).reverted == 1
    assert shown(tied) is None


def test_votes_are_one_each_and_counted(named: Feature, bob: User, staff: User) -> None:
    label = named.labels.get()
    for user, value in ((bob, 1), (bob, 1), (staff, -1), (bob, -1)):
        labelling.vote(label, user, value)
    assert Vote.objects.count() == 2
    (counted,) = knowledge_of(named, bob).labels
    assert (counted.yes, counted.no, counted.mine) == (0, 2, -1)  # type: ignore[attr-defined]
    labelling.vote(label, bob, 0)
    (counted,) = knowledge_of(named, bob).labels
    assert (counted.yes, counted.no, counted.mine) == (0, 1, 0)  # type: ignore[attr-defined]
    with pytest.raises(Refused):
        labelling.vote(label, bob, 2)


def test_queries_do_not_grow_with_features(world: World, bob: User, django_assert_max_num_queries: object) -> None:
    labelling.give(some(world, 0), "warm", bob)
    for n in (2, 20):
        with django_assert_max_num_queries(14):  # type: ignore[operator]  # with the savepoints of the transaction
            labelling.give(some(world, *range(n)), f"of {n}", bob)


class AnyHistory(TestCase):
    """Whatever is done in whatever order: nothing is lost, and the log says what is shown."""

    def setUp(self) -> None:
        self.users = [factories.make_user(name) for name in ("ada", "bob")]
        self.sae = factories.make_sae(factories.make_model(), d_sae=3)
        self.rows = factories.make_features(self.sae)

    steps = st.lists(
        st.tuples(
            st.sampled_from(["give", "withdraw", "undo"]),
            st.integers(0, 1),
            st.sets(st.integers(0, 2), min_size=1),
            st.sampled_from("xy"),
            st.integers(0, 20),
        ),
        max_size=12,
    )

    @settings(max_examples=30)
    @given(steps)
    def test_the_log_says_what_is_shown(self, steps: list) -> None:
        shown: dict[int, int | None] = dict.fromkeys(row.pk for row in self.rows)
        batches, seen = [], 0
        for do, who, which, text, old in steps:
            rows, user = [self.rows[i] for i in sorted(which)], self.users[who]
            if do == "give":
                batches.append(labelling.give(rows, text, user))
            elif do == "withdraw":
                batches.append(labelling.withdraw(rows[0], user))
            elif made := [batch for batch in batches if labelling.changes_of(batch)]:
                batches.append(labelling.undo(made[old % len(made)], user).batch)
            count = Label.objects.count()
            assert count >= seen
            seen = count
        for change in LabelChange.objects.order_by("pk"):
            assert change.before_id == shown[change.feature_id]
            shown[change.feature_id] = change.after_id
        assert dict(Feature.objects.values_list("pk", "label")) == shown
