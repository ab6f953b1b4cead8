"""What follows from an SAE's weights alone: logit effects, neighbours, norms."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from jobs.engine.model import LoadedModel
from jobs.engine.saes import SAE

MAX_CELLS = 1 << 24  # of a chunk of logits or similarities: 64 MiB of float32


@dataclass(frozen=True)
class RankedChunk:
    """For features ``start`` to ``start + n``: ``ids`` int64 [n, lists, m] and ``values`` float32, best first."""

    start: int
    ids: Tensor
    values: Tensor


@torch.inference_mode()
def logit_effects(model: LoadedModel, sae: SAE, n: int = 10) -> Iterator[RankedChunk]:
    """The tokens whose logits one unit of each feature raises most, and lowers most (lists 0 and 1).

    The direct path: W_dec[i] through the final norm's gain (and its centring, if it is a LayerNorm) and the
    unembedding. The norm's division by the size of the residual stream depends on the text and is left out, so values
    compare within a model, not across models (the logit lens; nostalgebraist 2020, Elhage et al. 2021).
    """
    directions = through_norm(model.final_norm, sae.W_dec)
    unembedding = model.unembedding.float()
    n = min(n, len(unembedding))
    size = max(1, MAX_CELLS // len(unembedding))
    for start in range(0, sae.d_sae, size):
        logits = directions[start : start + size] @ unembedding.T
        both = torch.stack([_best(logits, n), _best(-logits, n)], dim=1)
        values = logits[:, None].expand(-1, 2, -1).gather(-1, both)
        yield RankedChunk(start, both.cpu(), values.cpu())


@torch.inference_mode()
def neighbours(sae: SAE, n: int = 10) -> Iterator[RankedChunk]:
    """The features whose decoder rows point most nearly the same way, by cosine; never the feature itself."""
    unit = functional.normalize(sae.W_dec, dim=-1)
    n = min(n, sae.d_sae - 1)
    size = max(1, MAX_CELLS // sae.d_sae)
    for start in range(0, sae.d_sae, size):
        cosine = unit[start : start + size] @ unit.T
        rows = torch.arange(len(cosine), device=cosine.device)
        cosine[rows, start + rows] = -2
        ids = _best(cosine, n)
        yield RankedChunk(start, ids[:, None].cpu(), cosine.gather(-1, ids)[:, None].cpu())


@torch.inference_mode()
def decoder_norms(sae: SAE) -> Tensor:
    """|W_dec[i]|, float32 [F]."""
    norms: Tensor = sae.W_dec.norm(dim=-1)
    return norms.cpu()


@torch.inference_mode()
def encoder_decoder_cosine(sae: SAE) -> Tensor:
    """Cosine of each feature's encoder column and decoder row, float32 [F]."""
    return functional.cosine_similarity(sae.W_enc.T, sae.W_dec, dim=-1).cpu()


def through_norm(norm: nn.Module, directions: Tensor) -> Tensor:
    """``directions`` [F, d] times the gain of ``norm``, centred first where the norm centres.

    Norms keep their gain as w or as 1 + w, and centre or not, by architecture: what ``norm`` does to probes tells. The
    probe of +1 and -1 has mean 0 (for even d) and size 1, and the half difference of both its signs drops a bias.
    """
    probe = torch.ones(1, directions.shape[-1], device=directions.device)
    probe[:, 1::2] = -1
    there, back, shifted = (norm(x).float() for x in (probe, -probe, probe + 3))
    centres = bool((shifted - there).abs().max() < 0.1 * there.abs().max())
    gain: Tensor = (there - back) / 2 * probe * (1 + _epsilon(norm)) ** 0.5
    if centres:
        directions = directions - directions.mean(-1, keepdim=True)
    return directions * gain


def _epsilon(norm: nn.Module) -> float:
    return float(getattr(norm, "variance_epsilon", None) or getattr(norm, "eps", None) or 0.0)


def _best(scores: Tensor, n: int) -> Tensor:
    """int64 [rows, n]: the n highest of each row, highest first, of equals the lower index first.

    topk orders ties as it likes, and vocabularies hold many tokens with one and the same embedding.
    """
    least = scores.topk(n, dim=-1).values[:, -1:]
    candidates = torch.zeros(len(scores), n, dtype=torch.long, device=scores.device)
    for row, (line, bar) in enumerate(zip(scores, least, strict=True)):
        ids = (line >= bar).nonzero().squeeze(-1)
        order = line[ids].sort(descending=True, stable=True).indices
        candidates[row] = ids[order[:n]]
    return candidates
