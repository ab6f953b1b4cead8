"""Hashes that stand in for chance: the same on every device, in every order, for one seed."""

import torch
from torch import Tensor

REACH = 8  # tokens on each side of the peak that make a key: 17 in all


def keys(token_ids: Tensor, lengths: Tensor) -> Tensor:
    """int64 [contexts, length]: a hash of the tokens within REACH of each position; the context's edges count as text.

    ``token_ids`` int64 [contexts, length], of which ``lengths`` [contexts] are text and the rest is padding.
    """
    n, length = token_ids.shape
    position = torch.arange(length, device=token_ids.device)
    text = torch.where(position < lengths[:, None], token_ids + 1, 0)
    padded = torch.nn.functional.pad(text, (REACH, REACH))
    key = torch.zeros(n, length, dtype=torch.long, device=token_ids.device)
    for step in range(2 * REACH + 1):
        key = mix(key ^ padded[:, step : step + length])
    return key


def sample(n: int, size: int, seed: int) -> Tensor:
    """``size`` of the numbers 0 to n - 1 without order or repetition, ascending int64; all of them if n is smaller."""
    priority = mix(torch.arange(n) ^ mix(torch.tensor(seed)))
    return priority.argsort(stable=True)[:size].sort().values


def mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser on int64, which wraps (Steele, Lea & Flood 2014), kept below 2**62 and non-negative.

    The arithmetic shift of a signed number would carry the sign along, so the sign bits are cut off first.
    """
    x = (x + _GOLDEN) & _POSITIVE
    x = ((x ^ (x >> 30)) * _FIRST) & _POSITIVE
    x = ((x ^ (x >> 27)) * _SECOND) & _POSITIVE
    return x ^ (x >> 31)


_POSITIVE = LARGEST = (1 << 62) - 1
_GOLDEN = 0x1E3779B97F4A7C15
_FIRST = 0x3F58476D1CE4E5B9
_SECOND = 0x14D049BB133111EB
