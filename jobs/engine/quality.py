"""How well an SAE fits the activations it is given: sums that merge, and the figures made from them."""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MIN_EXPLAINED_VARIANCE = 0.5
MAX_L0_RATIO = 3.0


@dataclass(frozen=True)
class Quality:
    """Figures of one SAE on one model and corpus, over unmasked tokens."""

    n_tokens: int
    explained_variance: float
    fvu: float
    cosine: float
    shrinkage: float
    l0: float


class QualitySums:
    """Float64 sums over tokens. ``merge`` adds; shards are merged in their order, so a retry gives the same bits."""

    def __init__(self, d: int) -> None:
        self.n_tokens = 0
        self.n_active = 0
        self.sum_x = np.zeros(d)
        # |x|^2, |x - x^|^2, cosine(x, x^), |x^| / |x|
        self.scalars = np.zeros(4)

    def update(self, x: Tensor, reconstruction: Tensor, n_active: int) -> None:
        """Add unmasked tokens: ``x`` and ``reconstruction`` [n, d] float32; ``n_active`` non-zero features in all."""
        if not len(x):
            return
        x, x_hat = x.double(), reconstruction.double()
        norm, norm_hat = x.norm(dim=-1), x_hat.norm(dim=-1)
        scale = norm.clamp_min(1e-30)
        sums = [
            norm.square().sum(),
            (x - x_hat).square().sum(),
            ((x * x_hat).sum(-1) / (scale * norm_hat.clamp_min(1e-30))).sum(),
            (norm_hat / scale).sum(),
        ]
        self.n_tokens += len(x)
        self.n_active += n_active
        self.sum_x += x.sum(0).cpu().numpy()
        self.scalars += torch.stack(sums).cpu().numpy()

    def merge(self, other: Self) -> None:
        self.n_tokens += other.n_tokens
        self.n_active += other.n_active
        self.sum_x += other.sum_x
        self.scalars += other.scalars

    def result(self) -> Quality:
        """Explained variance is 1 - sum |x - x^|^2 / (sum |x|^2 - N |mean x|^2): the variance, not the mean square."""
        n = max(self.n_tokens, 1)
        square, error, cosine, shrinkage = (float(v) for v in self.scalars)
        variance = square - float(np.square(self.sum_x).sum()) / n
        fvu = error / variance if variance > 0 else 1.0  # of activations that do not vary, nothing is explained
        return Quality(
            n_tokens=self.n_tokens,
            explained_variance=1 - fvu,
            fvu=fvu,
            cosine=cosine / n,
            shrinkage=shrinkage / n,
            l0=self.n_active / n,
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        return {
            "quality.counts": np.array([self.n_tokens, self.n_active], dtype=np.int64),
            "quality.sum_x": self.sum_x,
            "quality.scalars": self.scalars,
        }

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> Self:
        sums = cls(len(arrays["quality.sum_x"]))
        sums.n_tokens, sums.n_active = (int(v) for v in arrays["quality.counts"])
        sums.sum_x = arrays["quality.sum_x"].astype(np.float64)
        sums.scalars = arrays["quality.scalars"].astype(np.float64)
        return sums


def why_not_valid(quality: Quality, k: int | None) -> str:
    """Why these figures say that SAE and model do not belong together; empty where nothing speaks against them."""
    if not quality.n_tokens:
        return "no token was left after masking"
    if quality.explained_variance < MIN_EXPLAINED_VARIANCE:
        return (
            f"explained variance {quality.explained_variance:.3f} is below {MIN_EXPLAINED_VARIANCE}: "
            "a wrong layer, hook or model would look like this"
        )
    if k and not k / MAX_L0_RATIO <= quality.l0 <= k * MAX_L0_RATIO:
        return f"L0 {quality.l0:.1f} is far from the SAE's own k = {k}"
    return ""
