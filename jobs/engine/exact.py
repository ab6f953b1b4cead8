"""Sums of floats that are the same in whatever order they are made.

Adding floats rounds, so a sum over shards would depend on how the corpus was cut. Here every addend is cut into three
integers, multiples of 1, 2**-28 and 2**-56, and integers add exactly (fixed-point accumulation after Kulisch 1971; for
the problem, Demmel & Nguyen 2013). An addend below 2**-56 in its last digits is rounded there, by itself, before it is
added. float32 values from 2**-33 up lose nothing.
"""

import torch
from torch import Tensor

PARTS = 3
STEP = 2.0**28  # one part holds the sum of 2**35 addends and more


def parts(addends: Tensor) -> Tensor:
    """Finite floats [...] below 2**62 -> int64 [..., PARTS], to be added up in any order."""
    rest = addends.double()
    found = []
    for _ in range(PARTS - 1):
        whole = rest.trunc()  # not floor: -1e-11 would become -1 and 0.99999999999, which a float64 cannot hold
        found.append(whole)
        rest = (rest - whole) * STEP
    return torch.stack([*found, rest.round()], dim=-1).long()


def value(sums: Tensor) -> Tensor:
    """int64 [..., PARTS] -> float64 [...]. Carries go up first, so equal sums give equal floats."""
    sign = torch.where(_carried(sums)[..., 0] < 0, -1, 1)
    total = torch.zeros_like(sign, dtype=torch.float64)
    for column in reversed(_carried(sums * sign.unsqueeze(-1)).unbind(-1)):
        total = total / STEP + column.double()
    return total * sign


def _carried(sums: Tensor) -> Tensor:
    """The same sums with every part but the first within [0, 2**28)."""
    columns = [column.clone() for column in sums.unbind(-1)]
    for i in range(PARTS - 1, 0, -1):
        columns[i - 1] += columns[i] >> 28
        columns[i] &= (1 << 28) - 1
    return torch.stack(columns, dim=-1)
