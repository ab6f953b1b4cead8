"""The activation functions of SAEs, as modules that keep what they need. Each gets pre-activations p [n, d_sae]."""

import torch
from torch import Tensor, nn


class JumpReLU(nn.Module):
    """p where p > threshold and p > 0, else 0 (Rajamanoharan et al. 2024, arXiv 2407.14435). Overwrites p."""

    threshold: Tensor

    def __init__(self, threshold: Tensor) -> None:
        super().__init__()
        self.register_buffer("threshold", threshold.clamp(min=0))

    def forward(self, p: Tensor) -> Tensor:
        return p.masked_fill_(p <= self.threshold, 0)


class Gated(nn.Module):
    """relu(scale * p + shift) where p > 0, else 0: p is a gate's (saelens_v6.fold_gate). Overwrites p."""

    scale: Tensor
    shift: Tensor

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def forward(self, p: Tensor) -> Tensor:
        closed = p <= 0
        return p.mul_(self.scale).add_(self.shift).relu_().masked_fill_(closed, 0)


class TopK(nn.Module):
    """The k largest of each row, then ReLU (Gao et al. 2024, arXiv 2406.04093).

    ``by_magnitude``: the k largest |p|, sign kept and no ReLU. ``relu`` False: no ReLU either way. ``rank_by`` [d_sae]:
    chosen are the largest p * rank_by, given is p. Of equal values the lower index wins, on every device.
    """

    rank_by: Tensor | None

    def __init__(self, k: int, *, by_magnitude: bool = False, relu: bool = True, rank_by: Tensor | None = None) -> None:
        super().__init__()
        self.k, self.by_magnitude, self.relu = k, by_magnitude, relu and not by_magnitude
        self.register_buffer("rank_by", rank_by)

    def scores(self, p: Tensor) -> Tensor:
        """What the k are chosen by."""
        scores = p if self.rank_by is None else p * self.rank_by
        return scores.abs() if self.by_magnitude else scores

    def forward(self, p: Tensor) -> Tensor:
        index = top_k_indices(self.scores(p), self.k)
        kept = p.gather(-1, index)
        return torch.zeros_like(p).scatter_(-1, index, kept.relu() if self.relu else kept)


class GroupMax(nn.Module):
    """The largest of each of k runs of neighbouring features, then ReLU (EleutherAI's sparsify). k divides d_sae."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, p: Tensor) -> Tensor:
        groups = p.view(*p.shape[:-1], self.k, p.shape[-1] // self.k)
        value, place = groups.max(-1, keepdim=True)
        return torch.zeros_like(groups).scatter_(-1, place, value.relu()).flatten(-2)


class TanhReLU(nn.Module):
    """tanh(relu(p)), of early SAELens."""

    def forward(self, p: Tensor) -> Tensor:
        return p.relu().tanh()


def top_k_indices(scores: Tensor, k: int) -> Tensor:
    """scores [n, F] -> int64 [n, k], in no set order. Ties across the boundary go to the lower index.

    Ties at exactly 0 are left as they fall: either choice gives a feature that does not fire.
    """
    if k == scores.shape[-1]:
        return torch.arange(k, device=scores.device).expand(scores.shape)
    values, index = scores.topk(k + 1, dim=-1)
    index = index[..., :k]
    # topk is not stable. A row can differ only where the k-th value comes again; such rows are rare, so sort those.
    tied = (values[..., k - 1] == values[..., k]) & (values[..., k] != 0)
    if tied.any():
        index[tied] = scores[tied].sort(dim=-1, descending=True, stable=True).indices[..., :k]
    return index
