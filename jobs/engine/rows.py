"""The contexts that a run keeps for each feature, as one flat table that merges.

A row says that a feature fires in a context: its maximum there, where, and the activation of every firing token. What
is kept is a pure function of the set of rows (``reduce``): tables merge by being put end to end and reduced, so any
split of a corpus into shards, merged in any order, gives the same table.
"""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

LOWEST_OCTAVE, HIGHEST_OCTAVE = -16, 15
N_OCTAVES = HIGHEST_OCTAVE - LOWEST_OCTAVE + 1
LAST_PRIORITY = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Rows:
    """Columns of n rows. ``length`` cuts ``positions`` and ``values``, which hold all rows' firing tokens end to end.

    ``priority`` is a hash of the feature, the tokens around the peak, and the seed. Rows with one priority show the
    same text for the same feature, and the rows of lowest priority are a random sample that merges and repeats.
    """

    feature: Tensor  # int32
    context: Tensor  # int32
    value: Tensor  # float32, above 0
    peak: Tensor  # int16
    priority: Tensor  # int64
    length: Tensor  # int16
    positions: Tensor  # int16
    values: Tensor  # float32

    def __len__(self) -> int:
        return len(self.feature)

    @classmethod
    def empty(cls, device: torch.device | str = "cpu") -> Self:
        dtypes = (
            torch.int32, torch.int32, torch.float32, torch.int16, torch.int64, torch.int16, torch.int16, torch.float32,
        )  # fmt: skip
        return cls(*(torch.empty(0, dtype=dtype, device=device) for dtype in dtypes))

    @classmethod
    def concatenate(cls, tables: list[Self]) -> Self:
        return cls(*(torch.cat([getattr(t, f.name) for t in tables]) for f in fields(cls)))

    def take(self, index: Tensor) -> Self:
        """The rows ``index`` int64, in that order, with their firing tokens."""
        lengths = self.length.long()
        starts = (lengths.cumsum(0) - lengths)[index]
        lengths = lengths[index]
        # For each kept token: where its row starts in the old table, plus its place within the row.
        shift = torch.repeat_interleave(starts - (lengths.cumsum(0) - lengths), lengths)
        tokens = torch.arange(len(shift), device=shift.device) + shift
        columns = {f.name: getattr(self, f.name)[index] for f in fields(self)[:-2]}
        return type(self)(**columns, positions=self.positions[tokens], values=self.values[tokens])

    def to(self, device: torch.device | str) -> Self:
        return type(self)(*(getattr(self, f.name).to(device) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Kept:
    """A reduced table, and what a row must reach to have a chance in it; a feature that is not full lets all in.

    ``least_value`` float32 [F]: the value of the ``top``-th best. ``last_priority`` int64 [F * N_OCTAVES]: the highest
    priority of a full sample; below all where no sample is kept.
    """

    rows: Rows
    least_value: Tensor
    last_priority: Tensor

    @classmethod
    def empty(cls, d_sae: int, reservoir: int, device: torch.device | str = "cpu") -> Self:
        last = torch.full((d_sae * N_OCTAVES,), LAST_PRIORITY if reservoir else -1, device=device)
        return cls(Rows.empty(device), torch.zeros(d_sae, device=device), last)

    def could_enter(self, feature: Tensor, value: Tensor, priority: Tensor) -> Tensor:
        """Which (feature int64, value, priority) [n] are not beaten by what is kept already, bool [n]."""
        wanted: Tensor = value >= self.least_value[feature]
        return wanted | (priority <= self.last_priority[places(feature, value)])


def octave(values: Tensor) -> Tensor:
    """floor(log2(v)) of float32, exact, int64, clipped to the octaves that are told apart."""
    return (torch.frexp(values).exponent.long() - 1).clamp(LOWEST_OCTAVE, HIGHEST_OCTAVE)


def places(feature: Tensor, value: Tensor) -> Tensor:
    """A number for each (feature, octave of value), int64."""
    return feature.long() * N_OCTAVES + octave(value) - LOWEST_OCTAVE


def reduce(rows: Rows, top: int, reservoir: int, d_sae: int) -> Kept:
    """Keep, for each feature, the ``top`` best rows and the ``reservoir`` lowest priorities of each octave.

    Best is value descending, then context ascending. Of rows with one priority only the best counts: among all rows of
    the feature for the first, among those of the octave for the second. The result is sorted by feature, best first.
    """
    kept = Kept.empty(d_sae, reservoir, rows.value.device)
    if not len(rows):
        return kept
    order = _best_first(rows)
    feature, value, priority = rows.feature[order].long(), rows.value[order], rows.priority[order]
    by_priority = priority.sort(stable=True).indices

    distinct = torch.empty(len(order), dtype=torch.bool, device=value.device)
    distinct[by_priority] = _starts(priority[by_priority], feature[by_priority])
    best = distinct.nonzero().squeeze(1)
    best = best[_rank(feature[best]) < top]

    place = places(feature, value)
    sample = by_priority[place[by_priority].sort(stable=True).indices]
    sample = sample[_starts(priority[sample], place[sample])]
    sample = sample[_rank(place[sample]) < reservoir]

    keep = torch.zeros_like(distinct)
    keep[best] = keep[sample] = True
    _last_of_full(kept.least_value, feature[best], value[best], top)
    _last_of_full(kept.last_priority, place[sample], priority[sample], reservoir)
    return Kept(rows.take(order[keep]), kept.least_value, kept.last_priority)


def _best_first(rows: Rows) -> Tensor:
    """The order feature ascending, value descending, context ascending."""
    by_context = rows.context.sort(stable=True).indices
    # Positive floats are ordered as the integers with their bits.
    rank = (rows.feature.long() << 31) | (0x7FFFFFFF - rows.value.view(torch.int32).long())
    return by_context[rank[by_context].sort(stable=True).indices]


def _rank(group: Tensor) -> Tensor:
    """The place of each entry within its run of equals; ``group`` [n] is sorted."""
    places = torch.arange(len(group), device=group.device)
    return places - torch.where(_starts(group), places, 0).cummax(0).values if len(group) else places


def _starts(*columns: Tensor) -> Tensor:
    """Where, in columns sorted together, a new group begins."""
    new = torch.zeros(len(columns[0]), dtype=torch.bool, device=columns[0].device)
    new[:1] = True
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return new


def _last_of_full(out: Tensor, group: Tensor, values: Tensor, size: int) -> None:
    """Write into ``out`` the last value of every run of ``size`` equals in ``group``, which is sorted."""
    if size and len(group):
        full = _rank(group) == size - 1
        out[group[full]] = values[full]
