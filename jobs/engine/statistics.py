"""Counts, sums and histograms of every feature over the tokens of a run: one batch in, sums that merge out."""

from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# Histogram bins: a quarter of an octave each, from 2**-16 to 2**16. What lies outside counts in the outermost bins.
PER_OCTAVE = 4
FIRST_BIN = -16 * PER_OCTAVE
N_BINS = 32 * PER_OCTAVE


def inner_edges(device: torch.device | str = "cpu") -> Tensor:
    """The N_BINS - 1 edges between bins, 2**(i/4) rounded to float32."""
    exponents = torch.arange(FIRST_BIN + 1, FIRST_BIN + N_BINS, dtype=torch.float64)
    return torch.exp2(exponents / PER_OCTAVE).float().to(device)


class FeatureSums:
    """Over unmasked tokens, per feature: how often it fires, in how many contexts, sum, sum of squares, histogram."""

    def __init__(self, d_sae: int, device: torch.device | str = "cpu") -> None:
        self.n_firing = torch.zeros(d_sae, dtype=torch.int64, device=device)
        self.n_contexts = torch.zeros(d_sae, dtype=torch.int64, device=device)
        self.histogram = torch.zeros(d_sae * N_BINS, dtype=torch.int64, device=device)
        self.total = torch.zeros(d_sae, dtype=torch.float64, device=device)
        self.total_square = torch.zeros(d_sae, dtype=torch.float64, device=device)
        self._edges = inner_edges(device)

    def update(self, feature: Tensor, value: Tensor, feature_of_pair: Tensor) -> None:
        """Add firings: ``feature`` int64, ``value`` float32 of each; a ``feature_of_pair`` per (context, feature)."""
        ones = torch.ones_like(feature)
        self.n_firing.index_add_(0, feature, ones)
        self.n_contexts.index_add_(0, feature_of_pair, torch.ones_like(feature_of_pair))
        self.total.index_add_(0, feature, value.double())
        self.total_square.index_add_(0, feature, value.double().square())
        bins = torch.bucketize(value, self._edges, right=True)
        self.histogram.index_add_(0, feature * N_BINS + bins, ones)

    def arrays(self) -> dict[str, NDArray[Any]]:
        names = ("n_firing", "n_contexts", "histogram", "total", "total_square")
        return {f"sums.{name}": getattr(self, name).cpu().numpy() for name in names}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        sums = cls(len(arrays["sums.n_firing"]))
        for name in ("n_firing", "n_contexts", "histogram", "total", "total_square"):
            setattr(sums, name, torch.from_numpy(np.array(arrays[f"sums.{name}"])))
        return sums

    def merge(self, other: Self) -> None:
        for name in ("n_firing", "n_contexts", "histogram", "total", "total_square"):
            getattr(self, name).add_(getattr(other, name).to(self.n_firing.device))
