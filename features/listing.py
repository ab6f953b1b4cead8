"""The features of a run a page at a time: filtered, in an order, each page found from the edge of the one beside it.

Filters and orders are read from the run's columns (features.columns), which this process keeps: nothing is sorted or
counted by the database, which is asked for the rows of one page by their keys. Pages are cut by key and never by
OFFSET: no feature is skipped or shown twice, whatever changes between two pages.
"""

import base64
import binascii
import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.columns import columns_of
from features.filters import Filters, ListingError
from features.models import Activity, Run
from features.store.columns import RunColumns

# What a list is ordered by: the column, and whether it descends. Features with the same value stand by index.
ORDERS = {
    "index": ("index", False),
    "-index": ("index", True),
    "density": ("density", False),
    "-density": ("density", True),
    "max": ("max_activation", False),
    "-max": ("max_activation", True),
    "mean": ("mean_activation", False),
    "-mean": ("mean_activation", True),
}
MAX_INDEX = 2**31 - 1


@dataclass(frozen=True)
class Edge:
    """The place of one feature in an order."""

    order: str
    value: float
    index: int

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
class Found:
    """The features of ``run`` that a listing asks for. ``kept`` bool [d_sae]; ``capped``: the search left some out."""

    run: Run
    order: str
    columns: RunColumns
    kept: NDArray[np.bool_]
    count: int
    capped: bool

    @property
    def n_present(self) -> int:
        """How many features the run has."""
        return int(np.count_nonzero(self.columns.present))

    def indexes(self) -> NDArray[np.uint32]:
        """All of them, in their order."""
        order = self._order()
        found: NDArray[np.uint32] = order[self.kept[order]]
        return found

    def page(self, limit: int, after: str = "", before: str = "", *, packed: bool = True) -> Page:
        """At most ``limit``: the first, or those next to a cursor that an earlier page gave. One query.

        ``packed``: with the bytes of histogram and examples.
        """
        edge = Edge.decode(self.order, after or before) if after or before else None
        backwards = bool(before and not after)
        shown = self._beside(edge, limit + 1, backwards=backwards)
        more, shown = len(shown) > limit, shown[:limit]
        if backwards:
            shown.reverse()
            if not shown:
                return self.page(limit, packed=packed)
        goes_on, came_from = (True, more) if backwards else (more, edge is not None)
        return Page(
            self._rows(shown, packed=packed),
            next=self._edge(shown[-1]).encode() if shown and goes_on else None,
            previous=self._edge(shown[0]).encode() if shown and came_from else None,
        )

    def _order(self) -> NDArray[np.uint32]:
        column, descends = ORDERS[self.order]
        if column != "index":
            return self.columns.order(column, descending=descends)
        every = np.arange(len(self.columns), dtype=np.uint32)
        return every[::-1] if descends else every

    def _value(self, index: int) -> float:
        column = ORDERS[self.order][0]
        return float(index if column == "index" else getattr(self.columns, column)[index])

    def _edge(self, index: int) -> Edge:
        return Edge(self.order, self._value(index), index)

    def _beside(self, edge: Edge | None, n: int, *, backwards: bool) -> list[int]:
        """The ``n`` nearest to ``edge``, nearest first."""
        order = self._order()
        if edge is not None:
            place = self._place(order, edge, before=backwards)
            order = order[:place][::-1] if backwards else order[place:]
        found: list[int] = []
        size = max(1024, 2 * n)
        while len(found) < n and len(order):  # a page is most often near: the whole order is seldom looked through
            part, order = order[:size], order[size:]
            found += part[self.kept[part]].tolist()
            size *= 4
        return found[:n]

    def _place(self, order: NDArray[np.uint32], edge: Edge, *, before: bool) -> int:
        """How many features stand before ``edge``, or up to it."""
        column, descends = ORDERS[self.order]
        sign = -1 if descends else 1
        find = bisect_left if before else bisect_right
        key = (sign * edge.value, 0 if column == "index" else edge.index)

        def place(index: np.uint32) -> tuple[float, int]:
            return sign * self._value(int(index)), 0 if column == "index" else int(index)

        return find(order, key, key=place)

    def _rows(self, indexes: list[int], *, packed: bool) -> list[Activity]:
        rows = Activity.objects.filter(run=self.run, index__among=indexes).for_table()
        rows = rows if packed else rows.defer("histogram", "examples")
        by_index = {row.index: row for row in rows} if indexes else {}
        return [by_index[index] for index in indexes if index in by_index]


@dataclass(frozen=True)
class FeatureListing(Filters):
    """Which features of a run, and in which order. Raises ListingError for what cannot be meant."""

    order: str = "index"

    def __post_init__(self) -> None:
        if self.order not in ORDERS:
            raise ListingError(f"order must be one of {', '.join(ORDERS)}.")
        super().__post_init__()

    def of(self, run: Run, user: Any = None) -> Found:
        """What of ``run`` passes. ``user`` is who asks: stars are a person's own, collections may be.

        No query once the columns are kept; one for stars, tag and collection together, one for kinds of labels, and
        those of a search.
        """
        columns = columns_of(run)
        kept, capped = self.mask(run, columns, user)
        return Found(run, self.order, columns, kept, int(np.count_nonzero(kept)), capped)
