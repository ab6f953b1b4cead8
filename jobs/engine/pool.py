"""A random sample of whole contexts: what fires together there, and where a feature stays silent."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jobs.engine import hashing
from jobs.engine.firings import Pairs

SIZE = 256  # contexts
N_SILENT = 4


@dataclass
class Pool:
    """Which contexts belong to it follows from their number in the corpus and the seed, so it merges by union.

    ``members`` int64, ascending, the contexts of the whole run's pool; ``seen`` of them the ones read so far, with
    ``n_tokens`` unmasked tokens. ``context`` int32, ``position`` int16 and ``feature`` int32 [m] name every firing.
    """

    members: Tensor
    seen: Tensor
    n_tokens: int
    context: Tensor
    position: Tensor
    feature: Tensor

    NAMES = ("members", "seen", "context", "position", "feature")

    @classmethod
    def of(cls, n_contexts: int, seed: int) -> Self:
        none = torch.empty(0, dtype=torch.int32)
        members = hashing.sample(n_contexts, SIZE, seed)
        return cls(members, members[:0], 0, none, none.short(), none)

    def add(self, pairs: Pairs) -> None:
        """Take in the firings of the batch's contexts that belong to the pool."""
        places = pairs.places
        belongs = torch.isin(places.numbers, self.members.to(places.numbers.device))
        if not belongs.any():
            return
        self.seen = torch.cat([self.seen, places.numbers[belongs].cpu()])
        self.n_tokens += int(belongs[places.context].sum())
        firing = belongs[pairs.cell // pairs.d_sae].nonzero().squeeze(1)
        context = places.numbers[pairs.cell[firing] // pairs.d_sae]
        self.context = torch.cat([self.context, context.int().cpu()])
        self.position = torch.cat([self.position, pairs.position[firing].short().cpu()])
        self.feature = torch.cat([self.feature, pairs.triples.feature[firing].int().cpu()])

    def merge(self, other: Self) -> None:
        self.n_tokens += other.n_tokens
        for name in self.NAMES[1:]:
            setattr(self, name, torch.cat([getattr(self, name), getattr(other, name)]))

    def sort(self) -> None:
        """The one order of the same firings: by context, position, feature."""
        self.seen = self.seen.sort().values
        order = self.feature.sort(stable=True).indices
        place = (self.context.long() << 16) | self.position.long()
        order = order[place[order].sort(stable=True).indices]
        for name in self.NAMES[2:]:
            setattr(self, name, getattr(self, name)[order])

    def firings(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """(token, feature) of every firing in the pool, by token; tokens are numbered from 0, in order."""
        self.sort()
        place = (self.context.long() << 16) | self.position.long()
        token = torch.unique_consecutive(place, return_inverse=True)[1]
        return token.numpy(), self.feature.numpy()

    def silent(self, d_sae: int, seed: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(feature, context) of up to N_SILENT random contexts in which each feature stays silent, by both."""
        self.sort()
        fires = torch.zeros(d_sae, len(self.seen), dtype=torch.bool)
        fires[self.feature.long(), torch.searchsorted(self.seen, self.context.long())] = True
        if not len(self.seen):
            return np.empty(0, np.int32), np.empty(0, np.int32)
        found = []
        for start in range(0, d_sae, 4096):
            part = fires[start : start + 4096]
            feature = torch.arange(start, start + len(part))[:, None]
            chance = hashing.mix(self.seen[None] ^ hashing.mix(feature + (seed << 32)))
            order = chance.masked_fill(part, hashing.LARGEST).argsort(dim=1, stable=True)[:, :N_SILENT]
            order = order.sort(dim=1).values
            row, place = (~part.gather(1, order)).nonzero(as_tuple=True)
            found.append(torch.stack([row + start, self.seen[order[row, place]]]))
        feature, context = torch.cat(found, dim=1).int().numpy()
        return feature, context

    def arrays(self) -> dict[str, Tensor]:
        self.sort()
        arrays = {f"pool.{name}": getattr(self, name) for name in self.NAMES}
        return arrays | {"pool.n_tokens": torch.tensor([self.n_tokens])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Tensor]) -> Self:
        own = {name: arrays[f"pool.{name}"] for name in cls.NAMES}
        return cls(**own, n_tokens=int(arrays["pool.n_tokens"][0]))
