"""Lists of features: every order shows every feature once, ties and all, and a hostile cursor is one clear error."""

import base64
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from hypothesis import given
from hypothesis import strategies as st

from features.listing import ORDERS, Edge, FeatureListing, ListingError
from features.models import Activity, Run
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
            mean_activation=0,
        )
        for feature, (density, maximum) in zip(factories.make_features(sae), VALUES, strict=True)
    )
    return run


def expected(order: str) -> list[int]:
    column, sign = order.removeprefix("-"), -1 if order.startswith("-") else 1
    values = {"index": lambda i: i, "density": lambda i: VALUES[i][0], "max": lambda i: VALUES[i][1]}[column]
    return sorted(range(len(VALUES)), key=lambda i: (sign * values(i), i))


def indexes(items: list[Activity]) -> list[int]:
    return [item.index for item in items]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 9])
def test_every_order_visits_every_feature_once_and_back_again(run: Run, order: str, limit: int) -> None:
    listing = FeatureListing(order)
    page = listing.page(listing.rows(run), limit)
    pages = [page]
    while page.next:
        page = listing.page(listing.rows(run), limit, after=page.next)
        pages.append(page)
    assert [i for page in pages for i in indexes(page.items)] == expected(order)
    assert [len(page.items) for page in pages[:-1]] == [limit] * (len(pages) - 1)
    for earlier in reversed(pages[:-1]):
        assert page.previous
        page = listing.page(listing.rows(run), limit, before=page.previous)
        assert indexes(page.items) == indexes(earlier.items)
        assert page.next == earlier.next
    assert page.previous is None


def test_a_page_costs_two_queries_at_most_and_no_offset(run: Run) -> None:
    listing = FeatureListing("density")
    after = listing.page(listing.rows(run), 1).next or ""
    with CaptureQueriesContext(
        connection,
    ) as queries:
        found = listing.page(listing.rows(run), 3, after=after)
        labels = [item.feature.label for item in found.items]
    assert len(labels) == 3
    assert len(queries) == 2
    assert not any("OFFSET" in query["sql"] for query in queries)


def test_before_the_first_is_the_first_page(run: Run) -> None:
    listing = FeatureListing("-max")
    first = Edge.of("-max", Activity.objects.get(run=run, index=7)).encode()
    assert indexes(listing.page(listing.rows(run), 2, before=first).items) == [7, 1]


def test_filters(run: Run) -> None:
    factories.make_label(Activity.objects.get(run=run, index=5).feature, "Names of 50% rivers", run=run)

    def found(**filters: object) -> list[int]:
        listing = FeatureListing(**filters)  # type: ignore[arg-type]
        return indexes(listing.page(listing.rows(run), 50).items)

    assert found(min_density=0.5) == [1, 4, 6, 7]
    assert found(max_density=0.0) == [0, 2, 5]
    assert found(min_density=0.2, max_density=0.4) == [3]
    assert found(q="of 50% riv") == [5]
    assert found(q="of 5_% riv") == []
    assert found(q="3") == [3]
    assert found(state="dead") == [0, 2, 5]
    assert found(state="alive") == [1, 3, 4, 6, 7]
    assert found(state="alive", max_density=0.4) == [3]


def test_a_run_lists_only_its_own(run: Run) -> None:
    Activity.objects.filter(index=0).delete()
    other = Run.objects.get(pk=run.pk)
    other.pk = None
    other.save()
    listing = FeatureListing()
    assert listing.page(listing.rows(other), 50).items == []
    assert len(listing.page(listing.rows(run), 50).items) == len(VALUES) - 1


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"order": "label"}, "order must be one of index, -index, density, -density, max, -max."),
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
    listing = FeatureListing("max")
    for sides in ({"after": cursor}, {"before": cursor}):
        with pytest.raises(ListingError, match=r"start again without it\.$"):
            listing.page(listing.rows(run), 5, **sides)


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
