"""The state of an extraction: what has been counted and kept so far. It merges, and it can be saved."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from jobs.engine import hashing
from jobs.engine.capture import Batch
from jobs.engine.codes import Codes
from jobs.engine.errors import DamagedState
from jobs.engine.experts import ExpertSums
from jobs.engine.firings import Pairs, Places, near_misses
from jobs.engine.pool import Pool
from jobs.engine.quality import QualitySums
from jobs.engine.rows import Kept, Rows, reduce
from jobs.engine.statistics import FeatureSums

if TYPE_CHECKING:
    from jobs.engine.extraction import ExtractionSettings

N_NEAR = 4  # near misses kept per feature
MIN_PENDING = 100_000  # rows that wait before it is worth while to reduce
COUNTS = ("n_documents", "n_contexts", "n_special", "n_sinks")


class Table:
    """The rows kept so far, and those that came since and are still to be reduced into them."""

    def __init__(self, rows: Rows, top: int, reservoir: int, d_sae: int) -> None:
        self.top, self.reservoir, self.d_sae = top, reservoir, d_sae
        self._kept = reduce(rows, top, reservoir, d_sae)
        self._pending: list[Rows] = []
        self._n_pending = 0

    @property
    def rows(self) -> Rows:
        self.compact()
        return self._kept.rows

    @property
    def kept(self) -> Kept:
        """What rows are measured against before they are added; it lags behind what is pending."""
        return self._kept

    def add(self, rows: Rows) -> None:
        self._pending.append(rows)
        self._n_pending += len(rows)
        if self._n_pending > max(MIN_PENDING, len(self._kept.rows)):
            self.compact()

    def merge(self, other: "Table") -> None:
        """Take in the rows of another table, but for those that are beaten already."""
        rows = other.rows.to(self._kept.rows.value.device)
        wanted = self._kept.could_enter(rows.feature.long(), rows.value, rows.priority)
        self.add(rows.take(wanted.nonzero().squeeze(1)))
        self.compact()

    def compact(self) -> None:
        if self._pending:
            rows = Rows.concatenate([self._kept.rows, *self._pending])
            self._pending, self._n_pending = [], 0
            self._kept = reduce(rows, self.top, self.reservoir, self.d_sae)


class State:
    """Mergeable: counts and sums add up as integers, rows reduce. Size depends on the number of features alone.

    ``experts`` is there where a router's choices are read, and counts which experts the features go with.
    Two states of the same contexts hold the same bytes, however the contexts were cut, ordered and merged.
    """

    def __init__(
        self,
        quality: QualitySums,
        sums: FeatureSums,
        fired: Table,
        near: Table,
        pool: Pool,
        experts: ExpertSums | None = None,
    ) -> None:
        self.quality, self.sums, self.fired, self.near, self.pool = quality, sums, fired, near, pool
        self.experts = experts
        self.counts = torch.zeros(len(COUNTS), dtype=torch.int64)

    @classmethod
    def empty(
        cls,
        d_sae: int,
        d: int,
        settings: "ExtractionSettings",
        n_contexts: int,
        device: torch.device | str = "cpu",
        n_experts: int = 0,
    ) -> Self:
        """The state of no contexts. ``n_contexts`` is the whole corpus's: the pool is drawn from it. ``d``: d_out."""
        fired = Table(Rows.empty(device), settings.top, settings.reservoir, d_sae)
        near = Table(Rows.empty(device), N_NEAR, 0, d_sae)
        experts = ExpertSums(d_sae, n_experts, device) if n_experts else None
        return cls(QualitySums(d), FeatureSums(d_sae, device), fired, near, Pool.of(n_contexts, settings.seed), experts)

    @property
    def d_sae(self) -> int:
        return len(self.sums.n_contexts)

    @property
    def rows(self) -> Rows:
        return self.fired.rows

    def update(self, batch: Batch, codes: Codes, reconstruction: Tensor, seed: int) -> None:
        """Add a batch: ``codes`` and ``reconstruction`` [n, d_out] of its unmasked tokens."""
        self.quality.update(batch.y[batch.mask], reconstruction, len(codes.active))
        if self.experts is not None and batch.experts is not None:
            self.experts.update(batch.experts[batch.mask], codes.firings.token, codes.firings.feature)
        numbers = torch.tensor([c.number for c in batch.contexts], device=batch.mask.device)
        keys = hashing.keys(batch.token_ids, batch.lengths)
        context, position = batch.mask.nonzero(as_tuple=True)
        places = Places(numbers, context, position, keys)
        pairs = Pairs(codes.firings, places, self.d_sae)
        best = pairs.best(seed)
        self.sums.update(codes.firings.feature, codes.firings.value, best.feature)
        self.fired.add(pairs.rows(best, self.fired.kept.could_enter(best.feature, best.maximum, best.priority)))
        self.near.add(near_misses(codes.near, pairs, self.near.kept, seed))
        self.pool.add(pairs)
        documents = sum(c.offset == 0 for c in batch.contexts)
        self.counts += torch.tensor([documents, len(batch.contexts), batch.n_special, batch.n_sinks])

    def merge(self, other: Self) -> None:
        """Take in the state of other contexts of the same corpus."""
        self.quality.merge(other.quality)
        self.sums.merge(other.sums)
        if self.experts is not None and other.experts is not None:
            self.experts.merge(other.experts)
        self.counts += other.counts
        self.fired.merge(other.fired)
        self.near.merge(other.near)
        self.pool.merge(other.pool)

    def arrays(self) -> dict[str, Tensor]:
        """Everything, as named tensors on the CPU; the same contexts always give the same bytes."""
        arrays = self.quality.arrays() | self.sums.arrays() | self.pool.arrays() | {"counts": self.counts}
        arrays |= self.experts.arrays() if self.experts is not None else {}
        for name, table in (("fired", self.fired), ("near", self.near)):
            rows = table.rows.to("cpu")
            arrays |= {f"{name}.{f.name}": getattr(rows, f.name) for f in fields(Rows)}
        return arrays | {"shape": torch.tensor([self.fired.top, self.fired.reservoir, self.d_sae])}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Tensor]) -> Self:
        """From what ``arrays`` gave. Raises KeyError where one is missing."""
        top, reservoir, d_sae = arrays["shape"].tolist()
        fired, near = (Rows(**{f.name: arrays[f"{name}.{f.name}"] for f in fields(Rows)}) for name in ("fired", "near"))
        quality, sums = QualitySums.from_arrays(arrays), FeatureSums.from_arrays(arrays)
        tables = Table(fired, top, reservoir, d_sae), Table(near, N_NEAR, 0, d_sae)
        experts = ExpertSums.from_arrays(arrays) if "experts.together" in arrays else None
        state = cls(quality, sums, *tables, Pool.from_arrays(arrays), experts)
        state.counts = arrays["counts"].clone()
        return state

    def save(self, path: Path) -> None:
        """Write a safetensors file, aside first: ``path`` is whole or not there."""
        aside = path.with_name(path.name + ".partial")
        save_file({name: tensor.contiguous() for name, tensor in self.arrays().items()}, aside)
        aside.rename(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote. Raises DamagedState."""
        try:
            return cls.from_arrays(load_file(path))
        except (OSError, SafetensorError, KeyError, ValueError, IndexError) as error:
            raise DamagedState(f"{path} is not a whole shard state: {error}") from error


def merge_all(states: Iterable[State]) -> State | None:
    """The states merged pairwise, as a tree: few are in memory at once, and a row is sorted log2(n) times at most."""
    waiting: list[tuple[int, State]] = []
    for state in states:
        level = 0
        while waiting and waiting[-1][0] == level:
            other = waiting.pop()[1]
            other.merge(state)
            state, level = other, level + 1  # noqa: PLW2901 - it grows as it is carried up
        waiting.append((level, state))
    while len(waiting) > 1:
        _, state = waiting.pop()
        waiting[-1][1].merge(state)
    return waiting[0][1] if waiting else None
