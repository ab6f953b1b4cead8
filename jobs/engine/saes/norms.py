"""Normalisations of an SAE's input, row by row. Both sides work from the raw x, so nothing is kept between calls."""

from typing import Protocol

import torch
from torch import Tensor


class Norm(Protocol):
    NAME: str

    def apply(self, x: Tensor) -> Tensor: ...

    def undo(self, y: Tensor, x: Tensor) -> Tensor: ...


class LayerNorm:
    """(x - mean) / (std + 1e-5) with the unbiased std (n - 1); undone as y * std + mean, without the 1e-5."""

    NAME = "layer norm"

    def apply(self, x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)

    def undo(self, y: Tensor, x: Tensor) -> Tensor:
        return y * x.std(-1, keepdim=True) + x.mean(-1, keepdim=True)


class ConstantNorm:
    """x scaled to norm sqrt(d_in); a row of zeros stays as it is."""

    NAME = "constant norm"

    def apply(self, x: Tensor) -> Tensor:
        return x * self._scale(x)

    def undo(self, y: Tensor, x: Tensor) -> Tensor:
        return y / self._scale(x)

    def _scale(self, x: Tensor) -> Tensor:
        norm = x.norm(dim=-1, keepdim=True)
        return torch.where(norm == 0, 1.0, x.shape[-1] ** 0.5 / norm)
