"""How well an SAE fits the activations it is given: sums that merge, and the figures made from them."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from jobs.engine import exact
from jobs.engine.cross_entropy import CrossEntropy
from jobs.engine.errors import NotFinite

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
    """Sums over tokens that merge in any order to the same bits (jobs.engine.exact)."""

    def __init__(self, d: int) -> None:
        self.n_tokens = 0
        self.n_active = 0
        # |x|^2, |x - x^|^2, cosine(x, x^), |x^| / |x|, then x itself [d]
        self.sums = torch.zeros(4 + d, exact.PARTS, dtype=torch.int64)

    def update(self, x: Tensor, reconstruction: Tensor, n_active: int) -> None:
        """Add unmasked tokens: ``x`` and ``reconstruction`` [n, d] float32; ``n_active`` non-zero features in all.

        Raises NotFinite where either holds NaN or infinity: no statistic would mean anything.
        """
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
        found = torch.cat([torch.stack(sums), x.sum(0)]).cpu()
        if not found.isfinite().all():
            raise NotFinite("The model or the SAE gave NaN or infinite activations; try another device or checkpoint.")
        self.sums += exact.parts(found)
        self.n_tokens += len(x)
        self.n_active += n_active

    def merge(self, other: Self) -> None:
        self.n_tokens += other.n_tokens
        self.n_active += other.n_active
        self.sums += other.sums

    def result(self) -> Quality:
        """Explained variance is 1 - sum |x - x^|^2 / (sum |x|^2 - N |mean x|^2): the variance, not the mean square."""
        n = max(self.n_tokens, 1)
        sums = exact.value(self.sums)
        square, error, cosine, shrinkage = sums[:4].tolist()
        variance = square - float(sums[4:].square().sum()) / n
        fvu = error / variance if variance > 0 else 1.0  # of activations that do not vary, nothing is explained
        return Quality(
            n_tokens=self.n_tokens,
            explained_variance=1 - fvu,
            fvu=fvu,
            cosine=cosine / n,
            shrinkage=shrinkage / n,
            l0=self.n_active / n,
        )

    def arrays(self) -> dict[str, Tensor]:
        counts = torch.tensor([self.n_tokens, self.n_active])
        return {"quality.counts": counts, "quality.sums": self.sums}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Tensor]) -> Self:
        sums = cls(len(arrays["quality.sums"]) - 4)
        sums.n_tokens, sums.n_active = arrays["quality.counts"].tolist()
        sums.sums = arrays["quality.sums"].clone()
        return sums


def why_not_valid(
    quality: Quality,
    k: int | None,
    *,
    reported_l0: float | None = None,
    cross_entropy: CrossEntropy | None = None,
) -> list[str]:
    """All that these figures say against SAE and model belonging together, as sentences; empty where nothing does.

    ``k`` is the SAE's own, ``reported_l0`` what its files say that it had in training.
    """
    if not quality.n_tokens:
        return ["No token was left after masking."]
    reasons = []
    if not quality.explained_variance >= MIN_EXPLAINED_VARIANCE:  # NaN is no explanation either
        reasons.append(
            f"Explained variance {quality.explained_variance:.3f} is below {MIN_EXPLAINED_VARIANCE}: "
            "a wrong layer, hook or model would look like this."
        )
    if quality.l0 == 0:
        reasons.append("No feature is alive: none fired on any token.")
    else:
        if k and _is_far(quality.l0, k):
            reasons.append(f"L0 {quality.l0:.1f} is far from the SAE's own k = {k}.")
        if reported_l0 and _is_far(quality.l0, reported_l0):
            reasons.append(f"L0 {quality.l0:.1f} is far from the {reported_l0:.1f} that the SAE's files report.")
    if cross_entropy and (recovered := cross_entropy.recovered) is not None and recovered < 0:
        reasons.append(
            f"Reconstructing is worse than leaving out: the next token's cross entropy is {cross_entropy.ablated:.3f} "
            f"with zeros in place of the activations, {cross_entropy.reconstructed:.3f} with the SAE's output."
        )
    return reasons


def _is_far(l0: float, expected: float) -> bool:
    return not expected / MAX_L0_RATIO <= l0 <= expected * MAX_L0_RATIO
