"""A collection as its page shows it, a part at a time."""

from dataclasses import dataclass
from typing import Any

from features import selectors
from features.knowledge import rules
from features.models import Collection, CollectionItem
from features.selectors import Row

ROWS = 50
MOST_IN_ADDRESS = 400
"""How many indexes a link to the feature table carries."""


@dataclass(frozen=True)
class Shown:
    """One feature of a collection; ``mine``: the user may write its note and take it out."""

    row: Row
    item: CollectionItem
    mine: bool


@dataclass(frozen=True)
class Page:
    """``after`` is where it begins, ``next`` where the next one does. ``table``: the query of the feature table of
    ``sae`` that shows the same, where all features are of one SAE and few enough for an address.
    """

    rows: list[Shown]
    after: str
    next: str
    count: int
    sae: str
    table: str


def page_of(collection: Collection, user: Any, after: str) -> Page:
    """The features behind position ``after``: seven queries at most."""
    begin = int(after) if after.isascii() and after.isdecimal() and len(after) < 10 else 0
    items = collection.items.select_related("feature", "added_by").filter(position__gt=begin)
    found = list(items.defer("feature__logits", "feature__neighbours").order_by("position")[: ROWS + 1])
    here = found[:ROWS]
    lines = selectors.lines([item.feature for item in here])
    shown = [
        Shown(row, item, rules.may_change_item(user, collection, item)) for row, item in zip(lines, here, strict=True)
    ]
    count, sae, table = _table(collection)
    more = str(here[-1].position) if len(found) > ROWS else ""
    return Page(shown, str(begin) if begin else "", more, count, sae, table)


def _table(collection: Collection) -> tuple[int, str, str]:
    """How many features it holds, and the SAE and query of a table of the same."""
    ordered = collection.items.order_by("position").values_list("feature__sae__slug", "feature__index")
    pairs = list(ordered[: MOST_IN_ADDRESS + 1])
    if len(pairs) > MOST_IN_ADDRESS:
        return collection.items.count(), "", ""
    saes = {sae for sae, _ in pairs}
    if len(saes) != 1:
        return len(pairs), "", ""
    return len(pairs), saes.pop(), "ids=" + ",".join(str(index) for _, index in pairs)
