"""Mixtures of experts: which experts a token goes to, and which experts a feature's tokens go to."""

from contextlib import suppress
from typing import Self

import torch
from interp_engine import facts
from interp_engine.protocol import REFUSAL_ERRORS
from torch import Tensor, nn
from torch.nn import functional

from jobs.engine.model import LoadedModel

MIN_TOKENS = 3  # firing tokens on which an expert must have been chosen to be told of
FEATURES = 4096  # ranked at a time


def routers(model: LoadedModel) -> dict[int, tuple[nn.Module, str]]:
    """By layer, where the router hands out the numbers of the experts that it chose for each token."""
    found = {}
    for layer in model.arch.quirks.moe_layers:
        with suppress(*REFUSAL_ERRORS):  # a fused kernel routes without its router
            found[layer] = model.engine.resolve_point("expert_indices", layer)
    return found


def n_experts(model: LoadedModel) -> int:
    """Routed experts of each mixture in ``model``, shared ones left out; 0 where it has none."""
    return int(facts.n_experts(model.engine.hf_model.config))


class ExpertSums:
    """Over unmasked tokens: ``together`` int64 [F, E], firing tokens of a feature that went to an expert; ``chosen``
    int64 [E], tokens that went to it; ``n_tokens`` int64 [1]. They add up to the same bytes in any order.

    ``together`` takes 8 F E bytes: 64 MiB for 65,536 features and 128 experts.
    """

    NAMES = ("together", "chosen", "n_tokens")

    def __init__(self, d_sae: int, n_experts: int, device: torch.device | str = "cpu") -> None:
        self.together = torch.zeros(d_sae, n_experts, dtype=torch.int64, device=device)
        self.chosen = torch.zeros(n_experts, dtype=torch.int64, device=device)
        self.n_tokens = torch.zeros(1, dtype=torch.int64, device=device)

    def update(self, experts: Tensor, token: Tensor, feature: Tensor) -> None:
        """Add tokens: ``experts`` int64 [n, k], all different in a row, and firings (token, feature), int64 [m]."""
        ones = torch.ones_like(experts)
        self.chosen.index_add_(0, experts.flatten(), ones.flatten())
        cells = feature[:, None] * len(self.chosen) + experts[token]
        self.together.view(-1).index_add_(0, cells.flatten(), torch.ones_like(cells).flatten())
        self.n_tokens += len(experts)

    def merge(self, other: Self) -> None:
        for name in self.NAMES:
            getattr(self, name).add_(getattr(other, name).to(self.together.device))

    def arrays(self) -> dict[str, Tensor]:
        return {f"experts.{name}": getattr(self, name).cpu() for name in self.NAMES}

    @classmethod
    def from_arrays(cls, arrays: dict[str, Tensor]) -> Self:
        sums = cls(*arrays["experts.together"].shape)
        for name in cls.NAMES:
            setattr(sums, name, arrays[f"experts.{name}"].clone())
        return sums


def chosen_experts(sums: ExpertSums, n_firing: Tensor, n: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    """Ids int64 [F, n], share float32 [F, n] and lift float32 [F, n] of the experts that go with each feature.

    share = P(expert is chosen | feature fires) = together / n_firing, ``n_firing`` int64 [F] being the feature's firing
    tokens; lift = share / P(expert is chosen) = share / (chosen / n_tokens). Highest lift first, of equals the lower
    id. Experts chosen on fewer than MIN_TOKENS of the feature's tokens are left out: id -1, share and lift 0.
    """
    chunks = zip(torch.split(sums.together, FEATURES), torch.split(n_firing, FEATURES), strict=True)
    pieces = [_ranked(sums, together, firing, n) for together, firing in chunks]
    ids, share, lift = (torch.cat(parts).cpu() for parts in zip(*pieces, strict=True))
    return ids, share, lift


def _ranked(sums: ExpertSums, together: Tensor, n_firing: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    # Each is one division of integers, so that equal counts give equal floats.
    share = together.double() / n_firing[:, None].clamp_min(1)
    lift = (together * sums.n_tokens).double() / (n_firing[:, None] * sums.chosen).clamp_min(1)
    lift = lift.masked_fill(together < MIN_TOKENS, -1)
    lift, ids = (column[:, :n] for column in lift.sort(dim=-1, descending=True, stable=True))
    share, too_few = share.gather(-1, ids), lift < 0
    gap = (0, n - ids.shape[1])
    return (
        functional.pad(ids.masked_fill(too_few, -1), gap, value=-1),
        functional.pad(share.masked_fill(too_few, 0), gap).float(),
        functional.pad(lift.masked_fill(too_few, 0), gap).float(),
    )
