"""From the dense activations of a batch to its firings: (token, feature, value), grouped by (context, feature)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jobs.engine.rows import HIGHEST_OCTAVE, LOWEST_OCTAVE

REACH = 8  # tokens on each side of the peak that make the key: 17 in all


@dataclass(frozen=True)
class Firings:
    """m firings sorted by (context, feature, position), and the p pairs of context and feature they belong to.

    ``feature``, ``position``, ``pair`` int64 [m] and ``value`` float32 [m]; per pair, [p]: ``pair_context`` (within
    the batch), ``pair_feature``, ``length`` (firings), ``maximum``, ``peak`` (the first position of the maximum),
    ``octave``, ``key`` and ``priority``, as rows.Rows has them.
    """

    feature: Tensor
    position: Tensor
    value: Tensor
    pair: Tensor
    pair_context: Tensor
    pair_feature: Tensor
    length: Tensor
    maximum: Tensor
    peak: Tensor
    octave: Tensor
    key: Tensor
    priority: Tensor


def find_firings(acts: Tensor, places: Tensor, token_ids: Tensor, lengths: Tensor, seed: int) -> Firings:
    """``acts`` float32 [n, F] of the unmasked tokens, which stand at ``places`` [n, 2] (context, position) of
    ``token_ids`` [contexts, length]; context c has ``lengths[c]`` tokens, the rest is padding. A feature fires where
    its activation is above 0.
    """
    token, feature = (acts > 0).nonzero(as_tuple=True)
    value = acts[token, feature]
    pair_id = places[token, 0] * acts.shape[1] + feature
    # The sort is stable and tokens come in order, so positions rise within a pair.
    pair_id, order = pair_id.sort(stable=True)
    value, position = value[order], places[token[order], 1]
    pairs, pair, length = torch.unique_consecutive(pair_id, return_inverse=True, return_counts=True)
    pair_context, pair_feature = pairs // acts.shape[1], pairs % acts.shape[1]
    maximum = torch.zeros_like(pairs, dtype=value.dtype).scatter_reduce(0, pair, value, "amax", include_self=False)
    at_peak = torch.where(value == maximum[pair], position, token_ids.shape[1])
    peak = torch.zeros_like(pairs).scatter_reduce(0, pair, at_peak, "amin", include_self=False)
    key = keys_around(token_ids, lengths, pair_context, peak)
    return Firings(
        feature=feature[order],
        position=position,
        value=value,
        pair=pair,
        pair_context=pair_context,
        pair_feature=pair_feature,
        length=length,
        maximum=maximum,
        peak=peak,
        octave=(torch.frexp(maximum).exponent.long() - 1).clamp(LOWEST_OCTAVE, HIGHEST_OCTAVE),
        key=key,
        priority=mix(key ^ mix(pair_feature + (seed << 32))),
    )


def keys_around(token_ids: Tensor, lengths: Tensor, context: Tensor, peak: Tensor) -> Tensor:
    """int64 hash of the tokens within REACH of each ``peak``; the edges of the context count as part of the text."""
    key = torch.zeros_like(peak)
    for step in range(-REACH, REACH + 1):
        position = peak + step
        inside = (position >= 0) & (position < lengths[context])
        token = token_ids[context, position.clamp(0, token_ids.shape[1] - 1)]
        key = mix(key ^ torch.where(inside, token + 1, 0))
    return key


def mix(x: Tensor) -> Tensor:
    """splitmix64's finaliser on int64, which wraps (Steele, Lea & Flood 2014), kept below 2**62 and non-negative.

    The arithmetic shift of a signed number would carry the sign along, so the sign bits are cut off first.
    """
    x = (x + _GOLDEN) & _POSITIVE
    x = ((x ^ (x >> 30)) * _FIRST) & _POSITIVE
    x = ((x ^ (x >> 27)) * _SECOND) & _POSITIVE
    return x ^ (x >> 31)


_POSITIVE = (1 << 62) - 1
_GOLDEN = 0x1E3779B97F4A7C15
_FIRST = 0x3F58476D1CE4E5B9
_SECOND = 0x14D049BB133111EB
