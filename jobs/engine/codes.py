"""From activations to codes: which features fire on which tokens, and which nearly did, without what is thrown away."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from jobs.engine.saes import SAE
from jobs.engine.saes.activations import JumpReLU, TopK

CELLS = {"cpu": 1 << 22, "cuda": 1 << 28}  # of a chunk's pre-activations: 16 MiB stays in a CPU's cache
ROWS = 256
DENSE = 1 / 16  # share of non-zero activations above which a dense decode is quicker than a sparse one


@dataclass(frozen=True)
class Triples:
    """(token, feature, value), in the order of tokens: int64 [m], int64 [m], float32 [m]."""

    token: Tensor
    feature: Tensor
    value: Tensor

    def __len__(self) -> int:
        return len(self.token)


@dataclass(frozen=True)
class Codes:
    """``firings`` of n tokens, and ``near`` misses: the pre-activations that came next, a few per token.

    Values of both are above 0. ``negative``: activations below 0, which a TopK without ReLU keeps where fewer than k
    are above. They are no firings, but part of what the SAE gives and of its L0.
    """

    n: int
    firings: Triples
    near: Triples
    negative: Triples | None = None

    @property
    def active(self) -> Triples:
        """All activations other than 0."""
        if not self.negative:
            return self.firings
        both = _concatenate([self.firings, self.negative])
        return _take(both, both.token.argsort(stable=True))


@torch.inference_mode()
def encode(sae: SAE, x: Tensor, n_near: int) -> Codes:
    """``x`` [n, d_in] -> Codes, a chunk of tokens at a time: [n, F] is never whole in memory.

    A near miss of TopK is one of the ``n_near`` positive pre-activations after the k-th; of JumpReLU one of the
    ``n_near`` nearest below their threshold, if positive. A ReLU has none: what does not fire is not positive. Nor has
    GroupMax: a group's second need not come close to being its first.
    """
    size = chunk_size(sae, x)
    pieces = [_encode(sae, chunk, n_near) for chunk in torch.split(x, size)]
    starts = range(0, max(1, len(x)), size)
    return Codes(len(x), *(_concatenate(column, starts) for column in zip(*pieces, strict=True)))


@torch.inference_mode()
def reconstruct(sae: SAE, codes: Codes, x: Tensor) -> Tensor:
    """What the SAE makes of the codes of ``x`` [n, d_in]: float32 [n, d_out]. Sums decoder rows, not a dense matrix."""
    f = codes.active
    if len(f) > DENSE * codes.n * sae.d_sae:
        size = chunk_size(sae, x)
        return torch.cat([_dense_decode(sae, f, x, start, size) for start in range(0, codes.n, size)])
    starts = torch.searchsorted(f.token, torch.arange(codes.n, device=x.device))
    y = functional.embedding_bag(f.feature, sae.W_dec, starts, mode="sum", per_sample_weights=f.value)
    return sae.finish(y + sae.b_dec, x)


def chunk_size(sae: SAE, x: Tensor) -> int:
    """Tokens whose pre-activations are there at a time. A product of fewer than ROWS is slow: wide SAEs get those."""
    cells = CELLS.get(x.device.type, CELLS["cpu"])
    return max(1, cells // sae.d_sae, min(ROWS, 8 * cells // sae.d_sae))


def _encode(sae: SAE, x: Tensor, n_near: int) -> tuple[Triples, Triples, Triples]:
    """Firings, near misses, negative activations."""
    p = sae.pre_activations(x)
    if isinstance(sae.activation, TopK):
        return _top_k(sae.activation, p, n_near)
    near = _below(p, sae.activation.threshold, n_near) if isinstance(sae.activation, JumpReLU) else None
    acts = sae.activation(p)
    token, feature = acts.nonzero(as_tuple=True)
    firings = Triples(token, feature, acts[token, feature])
    none = _take(firings, slice(0))
    return firings, near or none, none


def _top_k(activation: TopK, p: Tensor, n_near: int) -> tuple[Triples, Triples, Triples]:
    k, scores = activation.k, activation.scores(p)
    floor = 0.0 if activation.relu else -torch.inf  # which of the equals below are chosen makes no difference
    index, value = _best(scores, (k, k + n_near), floor)
    if scores is not p:
        value = p.gather(1, index)
    chosen, above = slice(None, k), value > 0
    below = value[:, chosen] < 0 if not activation.relu else above[:0]
    return (
        _where(above[:, chosen], index, value),
        _where(above[:, k:], index[:, k:], value[:, k:]),
        _where(below, index, value),
    )


def _best(scores: Tensor, cuts: tuple[int, ...], floor: float) -> tuple[Tensor, Tensor]:
    """Indices and values [n, c] of the c largest of each row, c being the last of ``cuts``, or as many as there are.

    topk orders equals as it likes. On which side of a cut they fall is settled by the lower index: rows with equals
    above ``floor`` across a cut are rare, so those are sorted whole.
    """
    n = cuts[-1]
    if n >= scores.shape[1]:
        value, index = scores.sort(dim=-1, descending=True, stable=True)
        return index, value
    value, index = scores.topk(n + 1, dim=-1)
    tied = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)
    for cut in cuts:
        tied |= (value[:, cut - 1] == value[:, cut]) & (value[:, cut] > floor)
    value, index = value[:, :n], index[:, :n]
    if tied.any():
        rows = scores[tied].sort(dim=-1, descending=True, stable=True)
        value[tied], index[tied] = rows.values[:, :n], rows.indices[:, :n]
    return index, value


def _below(p: Tensor, threshold: Tensor, n: int) -> Triples:
    """Of each row the ``n`` positive values nearest below their threshold, unless that is beyond all floats."""
    can_fire = threshold < torch.finfo(torch.float32).max
    missing = torch.where((p > 0) & (p <= threshold) & can_fire, p - threshold, -torch.inf)
    index, gap = _best(missing, (n,), -torch.inf)
    token, place = gap[:, :n].isfinite().nonzero(as_tuple=True)
    feature = index[token, place]
    return Triples(token, feature, p[token, feature])


def _where(wanted: Tensor, index: Tensor, value: Tensor) -> Triples:
    """Those of each row that ``wanted`` [n, c] names, of ``index`` and ``value`` with as many columns or more."""
    token, place = wanted.nonzero(as_tuple=True)
    return Triples(token, index[token, place], value[token, place])


def _take(triples: Triples, which: Tensor | slice) -> Triples:
    return Triples(triples.token[which], triples.feature[which], triples.value[which])


def _concatenate(pieces: Sequence[Triples], starts: Iterable[int] | None = None) -> Triples:
    """``starts``: what is added to the tokens of each."""
    begins = [0] * len(pieces) if starts is None else starts
    token = torch.cat([piece.token + start for piece, start in zip(pieces, begins, strict=True)])
    return Triples(token, torch.cat([p.feature for p in pieces]), torch.cat([p.value for p in pieces]))


def _dense_decode(sae: SAE, f: Triples, x: Tensor, start: int, size: int) -> Tensor:
    """The reconstruction of tokens ``start`` to ``start + size``, by a matrix product."""
    part = x[start : start + size]
    own = (f.token >= start) & (f.token < start + size)
    acts = torch.zeros(len(part), sae.d_sae, device=x.device)
    acts[f.token[own] - start, f.feature[own]] = f.value[own]
    return sae.decode(acts, part)
