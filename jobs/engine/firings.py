"""One batch's codes seen by context: which features fire in which contexts, how strongly, and where."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from jobs.engine import hashing
from jobs.engine.codes import Triples
from jobs.engine.rows import Kept, Rows


@dataclass(frozen=True)
class Places:
    """Where the unmasked tokens of a batch stand. ``numbers`` int64 [contexts] names the contexts in the corpus.

    ``context``, ``position`` int64 [n]: of each unmasked token; ``keys`` int64 [contexts, length]: hashes of the text
    around each position.
    """

    numbers: Tensor
    context: Tensor
    position: Tensor
    keys: Tensor


class Pairs:
    """Triples grouped by (context, feature). ``cell`` int64 [m] numbers the pair each triple belongs to.

    Work goes through tables of [contexts * F] cells, not through sorting: a batch has few contexts, and most of its
    pairs are dropped once the run is under way.
    """

    def __init__(self, triples: Triples, places: Places, d_sae: int) -> None:
        self.triples, self.places, self.d_sae = triples, places, d_sae
        self.position = places.position[triples.token]
        self.cell = places.context[triples.token] * d_sae + triples.feature

    @cached_property
    def maximum(self) -> Tensor:
        """float32 [contexts * F], 0 where there is none."""
        table = torch.zeros(len(self.places.numbers) * self.d_sae, device=self.cell.device)
        return table.scatter_reduce_(0, self.cell, self.triples.value, "amax")

    def best(self, seed: int) -> "Best":
        """The maximum of each pair, and the first position where it stands."""
        cells = self.maximum.nonzero().squeeze(1)
        length = self.places.keys.shape[1]
        at_maximum = torch.where(self.triples.value == self.maximum[self.cell], self.position, length)
        table = torch.full_like(self.maximum, length, dtype=torch.int64)
        peak = table.scatter_reduce_(0, self.cell, at_maximum, "amin")[cells]
        context, feature = cells // self.d_sae, cells % self.d_sae
        priority = hashing.mix(self.places.keys[context, peak] ^ hashing.mix(feature + (seed << 32)))
        return Best(cells, context, feature, self.maximum[cells], peak, priority)

    def rows(self, best: "Best", wanted: Tensor) -> Rows:
        """The pairs of ``best`` that are ``wanted`` bool [p], with all their triples."""
        kept = torch.zeros_like(self.maximum, dtype=torch.bool)
        kept[best.cell[wanted]] = True
        triples = kept[self.cell].nonzero().squeeze(1)
        # Stable, and tokens come in order, so positions rise within a pair.
        cell, order = self.cell[triples].sort(stable=True)
        triples = triples[order]
        length = torch.unique_consecutive(cell, return_counts=True)[1]
        return Rows(
            feature=best.feature[wanted].int(),
            context=self.places.numbers[best.context[wanted]].int(),
            value=best.maximum[wanted],
            peak=best.peak[wanted].short(),
            priority=best.priority[wanted],
            length=length.short(),
            positions=self.position[triples].short(),
            values=self.triples.value[triples],
        )


@dataclass(frozen=True)
class Best:
    """p pairs in the order of ``cell``: int64 [p] each, ``maximum`` float32 [p]. ``context`` counts in the batch."""

    cell: Tensor
    context: Tensor
    feature: Tensor
    maximum: Tensor
    peak: Tensor
    priority: Tensor


def near_misses(near: Triples, fired: Pairs, kept: Kept, seed: int) -> Rows:
    """Rows for the features that come close in a context and fire nowhere in it, one token each: the closest.

    What ``kept`` would not let in is not looked at.
    """
    close = near.value >= kept.least_value[near.feature]
    pairs = Pairs(_select(near, close), fired.places, fired.d_sae)
    silent = fired.maximum[pairs.cell] == 0
    pairs = Pairs(_select(pairs.triples, silent), fired.places, fired.d_sae)
    best = pairs.best(seed)
    return Rows(
        feature=best.feature.int(),
        context=fired.places.numbers[best.context].int(),
        value=best.maximum,
        peak=best.peak.short(),
        priority=best.priority,
        length=torch.ones_like(best.peak).short(),
        positions=best.peak.short(),
        values=best.maximum,
    )


def _select(triples: Triples, wanted: Tensor) -> Triples:
    return Triples(triples.token[wanted], triples.feature[wanted], triples.value[wanted])
