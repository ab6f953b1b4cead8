"""What follows from an SAE's weights alone: logit effects, neighbours, norms."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from jobs.engine.model import LoadedModel
from jobs.engine.points import Point, centres, epsilon
from jobs.engine.saes import SAE

MAX_CELLS = 1 << 25  # of a chunk of logits or similarities: 128 MiB of float32
IN_THE_STREAM = ("embeddings", "resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


@dataclass(frozen=True)
class RankedChunk:
    """For features ``start`` to ``start + n``: ``ids`` int64 [n, lists, m] and ``values`` float32, best first."""

    start: int
    ids: Tensor
    values: Tensor


@torch.inference_mode()
def logit_effects(model: LoadedModel, sae: SAE, point_out: Point | None = None, n: int = 10) -> Iterator[RankedChunk]:
    """The tokens whose logits one unit of each feature raises most, and lowers most (lists 0 and 1).

    ``point_out``: where the SAE's output belongs, the residual stream unless given. Where no linear map leads from
    there to the residual stream (``into_the_stream``), no effect is known: ids -1, values 0.
    The direct path: W_dec[i], in the stream's units, through the final norm's gain (and its centring, if it is a
    LayerNorm) and the unembedding. The norm's division by the size of the residual stream depends on the text and is
    left out, so values compare within a model, not across models (the logit lens; nostalgebraist 2020, Elhage et al.
    2021).
    Costs 2 F V d operations; of the [F, V] logits only MAX_CELLS are there at a time.
    """
    written = into_the_stream(model, sae.W_dec, point_out)
    unembedding = model.unembedding.float()
    n = min(n, len(unembedding))
    if written is None:
        yield RankedChunk(0, torch.full((sae.d_sae, 2, n), -1), torch.zeros(sae.d_sae, 2, n))
        return
    directions = through_norm(model.final_norm, written)
    for start, logits in products(directions, unembedding):
        ids = torch.stack([best(logits, n), best(logits, n, largest=False)], dim=1)
        values = logits[:, None].expand(-1, 2, -1).gather(-1, ids)
        yield RankedChunk(start, ids.cpu(), values.cpu())


@torch.inference_mode()
def neighbours(sae: SAE, n: int = 10) -> Iterator[RankedChunk]:
    """The features that point most nearly the same way, by cosine, never the feature itself.

    List 0 goes by decoder rows (what features write), list 1 by encoder columns (what they read). A row of zeros has
    cosine 0 with every other. Costs 4 F^2 d operations: at 65,536 features half as many as the encoder needs for
    262,144 tokens. Of each [F, F] matrix only MAX_CELLS are there at a time. Its symmetry is left unused: ranking
    columns as well as rows, and merging, costs most of what the halved products save.
    """
    n = min(n, sae.d_sae - 1)
    decoder, encoder = (functional.normalize(weights, dim=-1) for weights in (sae.W_dec, sae.W_enc.T))
    for (start, cosine), (_, read) in zip(products(decoder, decoder), products(encoder, encoder), strict=True):
        near = [nearest(chunk, start, n) for chunk in (cosine, read)]
        ids, values = (torch.stack(lists, dim=1).cpu() for lists in zip(*near, strict=True))
        yield RankedChunk(start, ids, values)


@torch.inference_mode()
def decoder_norms(sae: SAE) -> Tensor:
    """|W_dec[i]|, float32 [F]."""
    norms: Tensor = sae.W_dec.norm(dim=-1)
    return norms.cpu()


@torch.inference_mode()
def encoder_decoder_cosine(sae: SAE) -> Tensor:
    """Cosine of each feature's encoder column and decoder row, float32 [F]; 0 where their widths differ."""
    if sae.d_in != sae.d_out:
        return torch.zeros(sae.d_sae)
    return functional.cosine_similarity(sae.W_enc.T, sae.W_dec, dim=-1).cpu()


def into_the_stream(model: LoadedModel, directions: Tensor, point: Point | None) -> Tensor | None:
    """``directions`` [F, width of ``point``] as what they add to the residual stream, [F, d_model].

    Those at "z" and "mlp_act" go through the output projection, without its bias, and through the gain of the norm
    that some models put behind the sublayer, as in ``through_norm``. Those in the stream stay as they are. None at
    any other point.
    """
    hook = "resid_post" if point is None else point.hook
    written: Tensor | None = directions if hook in IN_THE_STREAM else None
    if point is not None and hook in ("z", "mlp_act"):
        weight = _weight(point.module)
        if weight is not None and weight.shape == (model.d_model, directions.shape[-1]):
            attention, mlp = model.arch.quirks.residual_multipliers
            written = directions @ weight.float().T * (attention if hook == "z" else mlp)
            norm = (model.arch.post_attn_norm if hook == "z" else model.arch.post_mlp_norm)(point.layer)
            written = written if norm is None else through_norm(norm, written)
    return written if written is not None and written.shape[-1] == model.d_model else None


def _weight(module: nn.Module) -> Tensor | None:
    """Of a linear map, [outputs, inputs]."""
    if isinstance(module, Conv1D):
        transposed: Tensor = module.weight.T
        return transposed
    return module.weight if isinstance(module, nn.Linear) else None


def through_norm(norm: nn.Module, directions: Tensor) -> Tensor:
    """``directions`` [F, d] times the gain of ``norm``, centred first where the norm centres.

    Norms keep their gain as w or as 1 + w, and centre or not, by architecture: what ``norm`` does to probes tells. The
    probe of +1 and -1 has mean 0 (for even d) and size 1, and the half difference of both its signs drops a bias.
    """
    in_float = copy.deepcopy(norm).float()  # a LayerNorm in 16 bits takes nothing else
    probe = torch.ones(1, directions.shape[-1], device=directions.device)
    probe[:, 1::2] = -1
    gain: Tensor = (in_float(probe) - in_float(-probe)) / 2 * probe * (1 + epsilon(norm)) ** 0.5
    if centres(norm, directions.shape[-1], directions.device):
        directions = directions - directions.mean(-1, keepdim=True)
    return directions * gain


def best(scores: Tensor, n: int, *, largest: bool = True) -> Tensor:
    """scores [rows, m] -> int64 [rows, n], n <= m: each row's highest (or lowest), of equals the lower index first.

    topk orders ties as it likes, and vocabularies hold many tokens with one and the same embedding.
    """
    values, ids = scores.topk(min(n + 1, scores.shape[-1]), dim=-1, largest=largest)
    ids = ids[:, :n].sort(dim=-1).values
    if 0 < n < scores.shape[-1]:
        # Which ids topk took can differ only where the value after the last comes again: such rows are rare.
        tied = values[:, n - 1] == values[:, n]
        if tied.any():
            ids[tied] = _lowest_of_equals(scores[tied], values[tied, n - 1 : n], n, largest)
    order = scores.gather(-1, ids).sort(dim=-1, descending=largest, stable=True).indices
    return ids.gather(-1, order)


def _lowest_of_equals(scores: Tensor, bar: Tensor, n: int, largest: bool) -> Tensor:
    """int64 [rows, n], ascending: all that is better than ``bar`` [rows, 1], then the first of what equals it."""
    better = ~(scores <= bar) if largest else scores < bar  # topk takes NaN for the largest of all
    equal = scores == bar
    room = n - better.sum(dim=-1, keepdim=True)
    chosen = better | (equal & (equal.cumsum(-1, dtype=torch.int32) <= room))
    return chosen.nonzero()[:, 1].view(-1, n)


def nearest(cosine: Tensor, start: int, n: int) -> tuple[Tensor, Tensor]:
    """Ids and values [rows, n] of the highest cosines of features ``start`` to ``start + rows``. Overwrites theirs."""
    rows = torch.arange(len(cosine), device=cosine.device)
    cosine[rows, start + rows] = -2
    ids = best(cosine, n)
    return ids, cosine.gather(-1, ids)


def products(left: Tensor, right: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Rows of left @ right.T, with the number of the first, as many as MAX_CELLS holds. They share one buffer."""
    size = min(len(left), max(1, MAX_CELLS // len(right)))
    buffer = torch.empty(size, len(right), device=left.device)  # new pages for each chunk cost as much as its product
    for start in range(0, len(left), size):
        chunk = left[start : start + size]
        yield start, torch.mm(chunk, right.T, out=buffer[: len(chunk)])
