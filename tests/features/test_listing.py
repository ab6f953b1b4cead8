"""Lists of features: every order shows every feature once, ties and all, and a hostile cursor is one clear error."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import assume, given
from hypothesis import strategies as st

from features.filters import ListingError, parse_ids
from features.listing import ORDERS, Edge, FeatureListing
from features.models import Activity, Collection, CollectionItem, Run, Star, Tag, Tagging
from tests import factories

pytestmark = pytest.mark.django_db

# (density, maximum) by index. Several tie in one, in the other, in both; 0.1 + 0.2 is no short decimal.
VALUES = [(0.0, 0.0), (0.5, 3.0), (0.0, 0.0), (0.1 + 0.2, 3.0), (0.5, 1e-7), (0.0, 0.0), (0.5, 3.0), (1.0, 1e20)]


@pytest.fixture
def run() -> Run:
    sae = factories.make_sae(factories.make_model(), d_sae=len(VALUES))
    run = factories.make_run(sae, factories.make_corpus())
    Activity.objects.bulk_create(
        Activity(
            run=run,
            feature=feature,
            index=feature.index,
            n_firing=0,
            n_contexts=0,
            density=density,
            max_activation=maximum,
            mean_activation=1 / (1 + maximum),
        )
        for feature, (density, maximum) in zip(factories.make_features(sae), VALUES, strict=True)
    )
    return run


def expected(order: str) -> list[int]:
    column, sign = order.removeprefix("-"), -1 if order.startswith("-") else 1
    values: dict[str, Callable[[int], float]] = {
        "index": lambda i: i,
        "density": lambda i: VALUES[i][0],
        "max": lambda i: VALUES[i][1],
    }
    values["mean"] = lambda i: 1 / (1 + VALUES[i][1])
    return sorted(range(len(VALUES)), key=lambda i: (sign * values[column](i), i))


def indexes(items: list[Activity]) -> list[int]:
    return [item.index for item in items]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 9])
def test_every_order_visits_every_feature_once_and_back_again(run: Run, order: str, limit: int) -> None:
    found = FeatureListing(order).of(run)
    assert found.indexes().tolist() == expected(order)
    page = found.page(limit)
    pages = [page]
    while page.next:
        page = found.page(limit, after=page.next)
        pages.append(page)
    assert [i for page in pages for i in indexes(page.items)] == expected(order)
    assert [len(page.items) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    for earlier in reversed(pages[:-1]):
        assert page.previous
        page = found.page(limit, before=page.previous)
        assert indexes(page.items) == indexes(earlier.items)
        assert page.next == earlier.next
    assert page.previous is None


def test_a_page_costs_one_query_and_no_sorting(run: Run) -> None:
    listing = FeatureListing("density")
    after = listing.of(run).page(1).next or ""
    with CaptureQueriesContext(connection) as queries:
        found = listing.of(run)
        page = found.page(3, after=after)
        labels = [item.feature.label for item in page.items]
    assert (len(labels), found.count) == (3, len(VALUES))
    assert len(queries) == 1
    assert not any(word in queries[0]["sql"] for word in ("OFFSET", "ORDER BY", "COUNT"))


def test_before_the_first_is_the_first_page(run: Run) -> None:
    first = Edge("-max", 1e20, 7).encode()
    assert indexes(FeatureListing("-max").of(run).page(2, before=first).items) == [7, 1]


def test_an_edge_that_is_no_features_lies_between_two(run: Run) -> None:
    found = FeatureListing("max").of(run)
    edge = Edge("max", 2.0, 5).encode()
    assert indexes(found.page(2, after=edge).items) == [1, 3]
    assert indexes(found.page(2, before=edge).items) == [5, 4]


def test_filters(run: Run) -> None:
    factories.make_label(Activity.objects.get(run=run, index=5).feature, "Names of 50% rivers", run=run)

    def found(**filters: Any) -> list[int]:
        listed = FeatureListing(**filters).of(run)
        assert listed.count == len(listed.indexes())
        return indexes(listed.page(50).items)

    assert found(min_density=0.5) == [1, 4, 6, 7]
    assert found(max_density=0.0) == [0, 2, 5]
    assert found(min_density=0.2, max_density=0.4) == [3]
    assert found(min_maximum=3.0) == [1, 3, 6, 7]
    assert found(min_maximum=1e-8, max_maximum=3) == [1, 3, 4, 6]
    assert found(q="of 50% riv") == [5]
    assert found(q="of 50% stream") == []
    assert found(q="3") == [3]
    assert found(state="dead") == [0, 2, 5]
    assert found(state="alive") == [1, 3, 4, 6, 7]
    assert found(state="alive", max_density=0.4) == [3]
    assert found(ids=(3, 5, 6, 1000), order="-index") == [6, 5, 3]
    assert found(label="none", state="dead") == [0, 2]
    assert found(label="rule") == found(label="any") == [5]
    assert found(label="person") == found(label="model") == []


choice = st.sampled_from
WANTED = {
    "order": choice(sorted(ORDERS)),
    "state": choice(["all", "alive", "dense", "dead"]),
    "min_density": choice([None, 0.0, 0.02, 0.1]),
    "max_density": choice([None, 0.03, 0.2, 1.0]),
    "min_maximum": choice([None, 0.0, 2.0]),
    "max_maximum": choice([None, 5.0, 7.0]),
    "label": choice(["", "any", "none", "rule", "person"]),
    "starred": st.booleans(),
    "tag": choice(["", "odd", "absent"]),
    "collection": choice(["", "picked"]),
    "ids": choice([None, (), tuple(range(15))]),
}


def passes(activity: Activity, wanted: dict[str, Any], sets: dict[str, set[int]]) -> bool:
    """The filters once more, one feature at a time."""
    label, d, m, i = activity.feature.label, activity.density, activity.max_activation, activity.index
    kind = label.source if label else "none"
    return (
        {"all": True, "alive": d > 0, "dense": d > 0.01, "dead": d == 0}[wanted["state"]]
        and (wanted["min_density"] or 0) <= d <= (wanted["max_density"] or 1)
        and (wanted["min_maximum"] or 0) <= m <= (wanted["max_maximum"] or 1e30)
        and (not wanted["label"] or wanted["label"] == kind or (wanted["label"] == "any" and label is not None))
        and (not wanted["starred"] or i in sets["starred"])
        and (not wanted["tag"] or i in sets[wanted["tag"]])
        and (not wanted["collection"] or i in sets["picked"])
        and (wanted["ids"] is None or i in wanted["ids"])
    )


def test_walking_all_pages_gives_what_passes_in_its_order(world: factories.World) -> None:
    features = {feature.index: feature for feature in world.sae.features.all()}
    sets = {"starred": {1, 5, 7, 12, 20}, "odd": set(range(1, 24, 2)), "absent": set(), "picked": {0, 5, 6, 7, 13}}
    Star.objects.bulk_create(Star(feature=features[i], user=world.user) for i in sets["starred"])
    tag = Tag.objects.create(name="odd")
    Tagging.objects.bulk_create(Tagging(feature=features[i], tag=tag) for i in sets["odd"])
    picked = Collection.objects.create(slug="picked", name="picked", owner=world.user)
    CollectionItem.objects.bulk_create(
        CollectionItem(collection=picked, feature=features[i], position=i) for i in sets["picked"]
    )
    run = Run.objects.select_related("sae").get()
    rows = list(Activity.objects.filter(run=run).for_table().order_by("index"))
    seen = set()

    @given(st.fixed_dictionaries(WANTED), st.integers(1, 9))
    def check(wanted: dict[str, Any], limit: int) -> None:
        bounds = [wanted[f"{end}_{what}"] for what in ("density", "maximum") for end in ("min", "max")]
        assume(not any(low is not None and high is not None and low > high for low, high in (bounds[:2], bounds[2:])))
        column, descends = ORDERS[wanted["order"]]
        kept = [row for row in rows if passes(row, wanted, sets)]
        kept.sort(key=lambda row: ((-1 if descends else 1) * float(getattr(row, column)), row.index))
        found = FeatureListing(**wanted).of(run, world.user)
        walked, after = [], ""
        while True:
            page = found.page(limit, after)
            walked += indexes(page.items)
            if not page.next:
                break
            after = page.next
        assert walked == [row.index for row in kept] == found.indexes().tolist()
        assert found.count == len(kept)
        seen.add(len(kept))

    check()
    assert len(seen) > 5


def test_a_run_lists_only_its_own(run: Run) -> None:
    Activity.objects.filter(index=0).delete()
    other = Run.objects.get(pk=run.pk)
    other.pk = None
    other.save()
    assert FeatureListing().of(other).page(50).items == []
    found = FeatureListing().of(run)
    assert indexes(found.page(50).items) == list(range(1, len(VALUES)))
    assert (found.count, found.n_present) == (len(VALUES) - 1, len(VALUES) - 1)


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        (
            {"order": "label"},
            "order must be one of index, -index, density, -density, max, -max, mean, -mean.",
        ),
        ({"label": "cat"}, "label must be one of any, none, rule, model, person."),
        ({"min_maximum": float("inf")}, "min_maximum must be an activation, 0 or more."),
        ({"min_maximum": 2.0, "max_maximum": 1.0}, "min_maximum must not be greater than max_maximum."),
        ({"tag": "a\0"}, "tag must not hold the character NUL."),
        ({"state": "asleep"}, "state must be one of all, alive, dense, dead."),
        ({"min_density": float("nan")}, "min_density must be a fraction of tokens, from 0 to 1."),
        ({"max_density": -1.0}, "max_density must be a fraction of tokens, from 0 to 1."),
        ({"min_density": 0.5, "max_density": 0.1}, "min_density must not be greater than max_density."),
        ({"q": "a\0b"}, "q must not hold the character NUL."),
        ({"q": "a" * 201}, "q must not be longer than 200 characters."),
    ],
)
def test_parameters_that_make_no_sense(asked: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ListingError) as error:
        FeatureListing(**asked)
    assert str(error.value) == sentence


def forged(plain: str) -> str:
    return base64.urlsafe_b64encode(plain.encode()).rstrip(b"=").decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "nonsense",
        "é",
        "=",
        "A",
        "A" * 5000,
        forged("max nan 1"),
        forged("max inf 1"),
        forged("max 1.0 -1"),
        forged(f"max 1.0 {2**31}"),
        forged("max 1.0 1; DROP TABLE features_feature"),
        forged("max 1.0"),
        forged("max 1 1"),
        forged("max 1.0 \u0661"),
        forged("-max 1.0 1"),
        forged("max 1.0 " + "1" * 5000),
        Edge("max", 1.0, 1).encode() + "=",
        " " + Edge("max", 1.0, 1).encode(),
    ],
)
def test_a_hostile_cursor_is_one_clear_error(run: Run, cursor: str) -> None:
    found = FeatureListing("max").of(run)
    for after, before in ((cursor, ""), ("", cursor)):
        with pytest.raises(ListingError, match=r"start again without it\.$"):
            found.page(5, after, before)


@pytest.mark.parametrize(
    ("text", "ids"),
    [("", None), (" , ", None), ("3,17, 42", (3, 17, 42)), ("7 7\n3", (3, 7)), ("0", (0,))],
)
def test_a_list_of_numbers(text: str, ids: tuple[int, ...] | None) -> None:
    assert parse_ids(text) == ids


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("3,x", "ids must be numbers with commas between them: “x” is none."),
        ("-1", "ids must be numbers with commas between them: “-1” is none."),
        ("\u0663", "ids must be numbers with commas between them: “\u0663” is none."),
        ("1" * 100, f"ids must be numbers with commas between them: “{'1' * 40}” is none."),
        ("1," * 1001, "ids must not name more than 1,000 features: there are 1,001."),
    ],
)
def test_what_is_no_list_of_numbers(text: str, sentence: str) -> None:
    with pytest.raises(ListingError) as error:
        parse_ids(text)
    assert str(error.value) == sentence


@given(st.text())
def test_any_text_is_a_cursor_or_a_clear_error(text: str) -> None:
    try:
        edge = Edge.decode("max", text)
    except ListingError:
        return
    assert edge.encode() == text


@given(st.sampled_from(sorted(ORDERS)), st.floats(allow_nan=False, allow_infinity=False), st.integers(0, 2**31 - 1))
def test_a_cursor_keeps_its_place_to_the_last_bit(order: str, value: float, index: int) -> None:
    edge = Edge(order, value, index)
    assert Edge.decode(order, edge.encode()) == edge
