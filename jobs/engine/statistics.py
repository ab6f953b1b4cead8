"""Counts, sums and histograms of every feature over the tokens of a run: one batch in, sums that merge out."""

from typing import Self

import torch
from torch import Tensor

from jobs.engine import exact

# Histogram bins: a quarter of an octave each, from 2**-16 to 2**16. What lies outside counts in the outermost bins.
PER_OCTAVE = 4
FIRST_BIN = -16 * PER_OCTAVE
N_BINS = 32 * PER_OCTAVE


def inner_edges(device: torch.device | str = "cpu") -> Tensor:
    """The N_BINS - 1 edges between bins, 2**(i/4) rounded to float32."""
    exponents = torch.arange(FIRST_BIN + 1, FIRST_BIN + N_BINS, dtype=torch.float64)
    return torch.exp2(exponents / PER_OCTAVE).float().to(device)


class FeatureSums:
    """Over unmasked tokens, per feature: a histogram, sum and sum of squares, and in how many contexts it fires.

    All of it integers (int64), so that shards add up to the same bytes in any order: ``histogram`` [F * N_BINS],
    ``n_contexts`` [F], ``moments`` [F, 2 * exact.PARTS].
    """

    NAMES = ("n_contexts", "histogram", "moments")

    def __init__(self, d_sae: int, device: torch.device | str = "cpu") -> None:
        self.n_contexts = torch.zeros(d_sae, dtype=torch.int64, device=device)
        self.histogram = torch.zeros(d_sae * N_BINS, dtype=torch.int64, device=device)
        self.moments = torch.zeros(d_sae, 2 * exact.PARTS, dtype=torch.int64, device=device)
        self._edges = inner_edges(device)

    @property
    def n_firing(self) -> Tensor:
        """Firing tokens, int64 [F]."""
        return self.histogram.view(-1, N_BINS).sum(dim=1)

    def totals(self) -> Tensor:
        """Sum of activations, float64 [F]."""
        return exact.value(self.moments[:, : exact.PARTS])

    def totals_square(self) -> Tensor:
        """Sum of squared activations, float64 [F]."""
        return exact.value(self.moments[:, exact.PARTS :])

    def update(self, feature: Tensor, value: Tensor, feature_of_pair: Tensor) -> None:
        """Add firings: ``feature`` int64, ``value`` float32 [m]; ``feature_of_pair``: one for each context."""
        bins = torch.bucketize(value, self._edges, right=True)
        self.histogram.index_add_(0, feature * N_BINS + bins, torch.ones_like(feature))
        self.n_contexts.index_add_(0, feature_of_pair, torch.ones_like(feature_of_pair))
        value = value.double()
        self.moments.index_add_(0, feature, torch.cat([exact.parts(value), exact.parts(value.square())], dim=1))

    def merge(self, other: Self) -> None:
        for name in self.NAMES:
            getattr(self, name).add_(getattr(other, name).to(self.histogram.device))

    def arrays(self) -> dict[str, Tensor]:
        return {f"sums.{name}": getattr(self, name).cpu() for name in self.NAMES}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Tensor]) -> Self:
        sums = cls(len(arrays["sums.n_contexts"]))
        for name in cls.NAMES:
            setattr(sums, name, arrays[f"sums.{name}"].clone())
        return sums
