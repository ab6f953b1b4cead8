"""What a list of features may be narrowed to: each filter a mask over the features of the run."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models import QuerySet
from numpy.typing import ArrayLike, NDArray

from features.models import Collection, Feature, Run
from features.models.run import DENSE
from features.search.query import QueryError
from features.search.text import indexes_matching
from features.shown_labels import NAMES, NONE, labels_of
from features.store.columns import RunColumns

STATES = ("all", "alive", "dense", "dead")
"""By density; ``dense`` means here what a run's count of dense features means."""
LABELS = ("any", *NAMES)
"""By the label that is shown: none, any, or who or what wrote it."""
MAX_QUERY = 200
MAX_IDS = 1000
Mask = NDArray[np.bool_]


class ListingError(ValueError):
    """A parameter of a list that makes no sense. The message is one sentence for the person who sent it."""


def parse_ids(text: str) -> tuple[int, ...] | None:
    """The feature numbers of ``3,17, 42``; None for no text. ListingError for anything else."""
    words = text.replace(",", " ").split()
    if not words:
        return None
    if len(words) > MAX_IDS:
        raise ListingError(f"ids must not name more than {MAX_IDS:,} features: there are {len(words):,}.")
    for word in words:
        if not re.fullmatch("[0-9]{1,9}", word):
            raise ListingError(f"ids must be numbers with commas between them: “{word[:40]}” is none.")
    return tuple(sorted({int(word) for word in words}))


@dataclass(frozen=True, kw_only=True)
class Filters:
    """All of them hold together. ``tag`` and ``collection`` are a name and a slug; ``ids`` feature numbers."""

    min_density: float | None = None
    max_density: float | None = None
    q: str = ""
    state: str = "all"
    min_maximum: float | None = None
    max_maximum: float | None = None
    label: str = ""
    starred: bool = False
    tag: str = ""
    collection: str = ""
    ids: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise ListingError(f"state must be one of {', '.join(STATES)}.")
        if self.label and self.label not in LABELS:
            raise ListingError(f"label must be one of {', '.join(LABELS)}.")
        for name in ("min_density", "max_density"):
            bound = getattr(self, name)
            if bound is not None and not 0 <= bound <= 1:
                raise ListingError(f"{name} must be a fraction of tokens, from 0 to 1.")
        for name in ("min_maximum", "max_maximum"):
            bound = getattr(self, name)
            if bound is not None and not 0 <= bound < np.inf:
                raise ListingError(f"{name} must be an activation, 0 or more.")
        for what in ("density", "maximum"):
            low, high = getattr(self, f"min_{what}"), getattr(self, f"max_{what}")
            if low is not None and high is not None and low > high:
                raise ListingError(f"min_{what} must not be greater than max_{what}.")
        if len(self.q) > MAX_QUERY:
            raise ListingError(f"q must not be longer than {MAX_QUERY} characters.")
        for name in ("q", "tag", "collection"):
            if "\0" in getattr(self, name):
                raise ListingError(f"{name} must not hold the character NUL.")

    def mask(self, run: Run, columns: RunColumns, user: Any) -> tuple[Mask, bool]:
        """Which features pass, bool [d_sae], and whether the search left some out."""
        mask = columns.present.copy()
        if self.state != "all":
            mask &= _in_state(columns, self.state)
        for low, high, column in (
            (self.min_density, self.max_density, columns.density),
            (self.min_maximum, self.max_maximum, columns.max_activation),
        ):
            if low is not None:
                mask &= column >= low
            if high is not None:
                mask &= column <= high
        if self.ids is not None:
            mask &= _among(len(mask), self.ids)
        if self.label:
            kinds = labels_of(run.sae).kinds
            mask &= kinds != NONE if self.label == "any" else kinds == NAMES[self.label]
        people = self._people(run, user) if self.starred or self.tag or self.collection else None
        if self.q:
            found, capped = _matching(run, self.q, people)
            return mask & _among(len(mask), found), capped
        if people is not None:
            mask &= _among(len(mask), list(people.values_list("index", flat=True)))
        return mask, False

    def _people(self, run: Run, user: Any) -> QuerySet[Feature]:
        """What people keep beside features."""
        found = Feature.objects.filter(sae=run.sae_id)
        if self.starred:
            found = found.filter(stars__user=user)
        if self.tag:
            found = found.filter(taggings__tag__name=self.tag)
        if self.collection:
            seen = Collection.objects.visible_to(user).filter(slug=self.collection)
            found = found.filter(collected__collection__in=seen)
        return found


def _in_state(columns: RunColumns, state: str) -> Mask:
    density = columns.density
    mask: Mask = density == 0 if state == "dead" else density > {"alive": 0.0, "dense": DENSE}[state]
    return mask


def _among(n: int, indexes: ArrayLike) -> Mask:
    mask = np.zeros(n, bool)
    chosen = np.asarray(indexes, np.int64)
    mask[chosen[chosen < n]] = True
    return mask


def _matching(run: Run, q: str, among: QuerySet[Feature] | None) -> tuple[NDArray[np.int64], bool]:
    try:
        found = indexes_matching(run, q, among)
    except QueryError as error:
        raise ListingError(str(error)) from error
    return found.indexes, found.capped
