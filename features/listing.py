"""The features of a run a page at a time: filtered, in an order, each page found from the edge of the one beside it.

Pages are cut by key and never by OFFSET: page 1,000 costs what page 1 costs, and no feature is skipped or shown twice.
"""

import base64
import binascii
import math
from dataclasses import dataclass

from features.models import Activity, Run
from features.models.activity import ActivityQuerySet
from features.models.run import DENSE

# What a list is ordered by: the column, and whether it descends. Features with the same value stand by index.
ORDERS = {
    "index": ("index", False),
    "-index": ("index", True),
    "density": ("density", False),
    "-density": ("density", True),
    "max": ("max_activation", False),
    "-max": ("max_activation", True),
}
# What a list may be narrowed to, by density. ``dense`` means here what a run's count of dense features means.
STATES: dict[str, dict[str, float]] = {
    "all": {},
    "alive": {"density__gt": 0},
    "dense": {"density__gt": DENSE},
    "dead": {"density": 0},
}
MAX_INDEX = 2**31 - 1
MAX_QUERY = 200


class ListingError(ValueError):
    """A parameter of a list that makes no sense. The message is one sentence for the person who sent it."""


@dataclass(frozen=True)
class Edge:
    """The place of one feature in an order."""

    order: str
    value: float
    index: int

    @classmethod
    def of(cls, order: str, row: Activity) -> "Edge":
        return cls(order, float(getattr(row, ORDERS[order][0])), row.index)

    def encode(self) -> str:
        plain = f"{self.order} {self.value!r} {self.index}"
        return base64.urlsafe_b64encode(plain.encode()).rstrip(b"=").decode()

    @classmethod
    def decode(cls, order: str, cursor: str) -> "Edge":
        """The edge that ``cursor`` names. ListingError unless it was made by ``encode`` for this order."""
        try:
            plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
            name, value, index = plain.split(" ")
            edge = cls(name, float(value), int(index))
        except (ValueError, binascii.Error) as error:
            raise ListingError("The cursor is not one that this list gave out; start again without it.") from error
        if edge.encode() != cursor or not math.isfinite(edge.value) or not 0 <= edge.index <= MAX_INDEX:
            raise ListingError("The cursor is not one that this list gave out; start again without it.")
        if name != order:
            raise ListingError("The cursor belongs to another order; start again without it.")
        return edge


@dataclass(frozen=True)
class Page:
    """``next`` and ``previous`` are cursors for ``after`` and ``before``; None where the list ends."""

    items: list[Activity]
    next: str | None
    previous: str | None


@dataclass(frozen=True)
class FeatureListing:
    """Which features of a run, and in which order. Raises ListingError for what cannot be meant."""

    order: str = "index"
    min_density: float | None = None
    max_density: float | None = None
    q: str = ""
    state: str = "all"

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ListingError(f"order must be one of {', '.join(ORDERS)}.")
        if self.state not in STATES:
            raise ListingError(f"state must be one of {', '.join(STATES)}.")
        for name in ("min_density", "max_density"):
            bound = getattr(self, name)
            if bound is not None and not 0 <= bound <= 1:
                raise ListingError(f"{name} must be a fraction of tokens, from 0 to 1.")
        if self.min_density is not None and self.max_density is not None and self.min_density > self.max_density:
            raise ListingError("min_density must not be greater than max_density.")
        if len(self.q) > MAX_QUERY:
            raise ListingError(f"q must not be longer than {MAX_QUERY} characters.")
        if "\0" in self.q:
            raise ListingError("q must not hold the character NUL.")

    def rows(self, run: Run) -> ActivityQuerySet:
        """The activities that pass the filters, in no order; each comes with its feature and label."""
        rows = Activity.objects.filter(run=run, **STATES[self.state]).for_table()
        rows = rows.density_between(self.min_density, self.max_density)
        return rows.matching(run, self.q) if self.q else rows

    def page(self, rows: ActivityQuerySet, limit: int, after: str = "", before: str = "") -> Page:
        """At most ``limit`` of ``rows``: the first, or those next to a cursor that an earlier page gave."""
        edge = Edge.decode(self.order, after or before) if after or before else None
        backwards = bool(before and not after)
        found = _walk(rows, self.order, edge, limit + 1, backwards=backwards)
        more, items = len(found) > limit, found[:limit]
        if backwards:
            items.reverse()
            if not items:
                return self.page(rows, limit)
        goes_on, came_from = (True, more) if backwards else (more, edge is not None)
        return Page(
            items,
            next=Edge.of(self.order, items[-1]).encode() if items and goes_on else None,
            previous=Edge.of(self.order, items[0]).encode() if items and came_from else None,
        )


def _walk(rows: ActivityQuerySet, order: str, edge: Edge | None, n: int, *, backwards: bool) -> list[Activity]:
    """The ``n`` rows nearest to ``edge``, nearest first.

    First those that tie with it, then those beyond: each is one range of one index, even where thousands of dead
    features share the value 0, which a single condition with an OR would have to read through. Read backwards, an
    index leaves those of one value to be sorted by number: few, but for the dead ones, which are a range of their own.
    """
    column, descends = ORDERS[order]
    by_value = "-" if descends != backwards else ""
    by_index = "-" if backwards else ""
    found: list[Activity] = []
    if edge and column != "index":
        ties = rows.filter(**{column: edge.value}, **_beyond("index", by_index, edge.index))
        found = list(ties.order_by(f"{by_index}index")[:n])
    beyond = rows.filter(**_beyond(column, by_value, edge.value)) if edge else rows
    columns = [f"{by_value}{column}"] + [f"{by_index}index"] * (column != "index")
    ranges = [beyond]
    if column != "index" and by_value and not by_index and (edge is None or edge.value > 0):
        ranges = [beyond.filter(**{f"{column}__gt": 0}), rows.filter(**{column: 0})]
    for part in ranges:
        if len(found) < n:
            found += part.order_by(*columns)[: n - len(found)]
    return found


def _beyond(column: str, sign: str, value: float) -> dict[str, float]:
    return {f"{column}__{'lt' if sign else 'gt'}": value}
