"""People who do things at the same moment, on a server that lets them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from features.knowledge import collecting, labelling, notes
from features.knowledge.rules import Refused
from features.models import Collection, Feature, Label, LabelChange, Tag
from tests import factories

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.postgresql,
    pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite lets one write at a time"),
]


def at_once(*things: Callable[[], object]) -> list[object]:
    def one(thing: Callable[[], object]) -> object:
        try:
            return thing()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(things)) as pool:
        return [future.result() for future in [pool.submit(one, thing) for thing in things]]


@pytest.fixture
def rows() -> list[Feature]:
    """Five features of two SAEs."""
    model = factories.make_model()
    saes = [factories.make_sae(model, slug, d_sae=n) for slug, n in (("one", 3), ("two", 2))]
    return [feature for sae in saes for feature in factories.make_features(sae)]


def test_the_log_says_what_is_shown_whoever_came_first(rows: list[Feature]) -> None:
    users = [factories.make_user(name) for name in ("ada", "bob")]
    first = labelling.give(rows, "first", users[0])

    def give(n: int) -> Callable[[], object]:
        chosen = rows if n % 2 else rows[::-1]
        return lambda: labelling.give(chosen, f"label {n % 3}", users[n % 2])

    at_once(*[give(n) for n in range(6)], *[lambda: labelling.undo(first, users[0])] * 2)
    shown: dict[int, int | None] = dict.fromkeys(row.pk for row in rows)
    for change in LabelChange.objects.order_by("pk"):
        assert change.before_id == shown[change.feature_id]
        shown[change.feature_id] = change.after_id
    assert dict(Feature.objects.values_list("pk", "label")) == shown
    texts = list(Label.objects.values_list("feature", "text", "author"))
    assert len(texts) == len(set(texts))


def test_limits_hold_and_positions_stay_distinct(rows: list[Feature]) -> None:
    user = factories.make_user()
    own = collecting.create(user, "Own")
    keys = [row.pk for row in rows]

    def tag(n: int) -> object:
        try:
            return notes.tag(keys[:1], [f"t{n}-{i}" for i in range(8)], user)
        except Refused:
            return None

    outcomes = at_once(*[lambda n=n: tag(n) for n in range(4)])
    assert sum(outcome is not None for outcome in outcomes) == 2
    assert Tag.objects.filter(taggings__feature=keys[0]).count() == 16
    at_once(*[lambda i=i: collecting.add(own, keys[i:] + keys[:i], user) for i in range(5)])
    positions = list(own.items.values_list("position", flat=True))
    assert len(positions) == len(set(positions)) == 5
    made = at_once(*[lambda: collecting.create(user, "Same name")] * 4)
    assert len({collection.slug for collection in made if isinstance(collection, Collection)}) == 4
