"""What a model loses when an SAE's reconstruction takes the place of the activations it was made from."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from interp_engine import apply_logit_transform
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from jobs.engine.capture import Batch, Capture
from jobs.engine.corpus import Context
from jobs.engine.model import LoadedModel
from jobs.engine.points import Point
from jobs.engine.saes import SAE

MAX_CELLS = 1 << 23  # of a chunk of logits: 32 MiB of float32
ONE_IN = 512
FEWEST = 4
# Inputs of modules by which all of the activations go on: those of the two output projections.
PASSED_ON = ("z", "mlp_act")


@dataclass(frozen=True)
class CrossEntropy:
    """Mean loss of the next token, in nats, over ``n_tokens`` predictions in ``n_contexts`` contexts.

    ``original``: the model as it is; ``reconstructed``: with the SAE's output at its hook point; ``ablated``: with
    zeros there. ``kl_reconstructed`` and ``kl_ablated``: mean KL(p_original || p_x), in nats. ``delta_error``: the
    standard error of ``delta``, by context, since the tokens of one context are no independent draws; None for a
    single context.
    """

    n_contexts: int
    n_tokens: int
    original: float
    reconstructed: float
    ablated: float
    kl_reconstructed: float
    kl_ablated: float
    delta_error: float | None

    @property
    def delta(self) -> float:
        return self.reconstructed - self.original

    @property
    def recovered(self) -> float | None:
        """The share of what ablation costs that the reconstruction saves; None where ablation costs nothing."""
        cost = self.ablated - self.original
        return (self.ablated - self.reconstructed) / cost if cost > 0 else None

    @property
    def kl_recovered(self) -> float | None:
        """1 - kl_reconstructed / kl_ablated; None where ablation changes no prediction."""
        return 1 - self.kl_reconstructed / self.kl_ablated if self.kl_ablated > 0 else None


def sample_size(n_contexts: int) -> int:
    """How many of a run's contexts cross entropy is measured on: one in 512, at least 4, no more than there are."""
    return min(n_contexts, max(FEWEST, math.ceil(n_contexts / ONE_IN)))


@torch.inference_mode()
def cross_entropy(capture: Capture, sae: SAE, contexts: Sequence[Context]) -> CrossEntropy | None:
    """Run ``contexts`` through the whole model three ways: as it is, reconstructed, and with zeros at the hook point.

    A transcoder's hook point is the one that it writes. The mean that centring takes off stays as it is in all three.
    Tokens that ``capture`` masks keep their activations in all three. Every next token that is real and not special
    is a prediction. None where the hook point cannot be replaced, and where there is nothing to predict.

    "Loss recovered": Bricken et al. 2023, Towards Monosemanticity; Rajamanoharan et al. 2024, arXiv 2404.16014.
    """
    point = capture.point_out or capture.point
    if not _is_passed_on(capture, point):
        return None
    rows = [_sums(capture, sae, context, point) for context in contexts]
    sums = np.array([row for row in rows if row[0]]).reshape(-1, 6)
    if not len(sums):
        return None
    n_tokens = sums[:, 0].sum()
    original, reconstructed, ablated, kl_reconstructed, kl_ablated = (sums[:, 1:].sum(0) / n_tokens).tolist()
    return CrossEntropy(
        n_contexts=len(sums),
        n_tokens=int(n_tokens),
        original=original,
        reconstructed=reconstructed,
        ablated=ablated,
        kl_reconstructed=kl_reconstructed,
        kl_ablated=kl_ablated,
        delta_error=_delta_error(sums),
    )


def _is_passed_on(capture: Capture, point: Point) -> bool:
    """Whether it is by this module that the activations reach all that reads them.

    Not so at the input of a norm or of an MLP: the residual stream runs past these.
    """
    return point.side == "output" or point.hook in PASSED_ON or point.module is capture.model.arch.block(point.layer)


def _delta_error(sums: NDArray[np.float64]) -> float | None:
    """The standard error of a ratio of sums over contexts, linearised (Cochran 1977, Sampling Techniques, 6.4)."""
    n = len(sums)
    if n < 2:
        return None
    tokens, change = sums[:, 0], sums[:, 2] - sums[:, 1]
    residual = change - tokens * (change.sum() / tokens.sum())
    return float(np.sqrt(n / (n - 1) * np.square(residual).sum()) / tokens.sum())


def _sums(capture: Capture, sae: SAE, context: Context, point: Point) -> list[float]:
    """Of one context: predictions, the losses of the three versions, the divergences of the last two."""
    batch = capture.run([context])
    targets = batch.token_ids[0, 1:]
    special = torch.tensor(sorted(capture.model.special_ids), dtype=torch.long, device=targets.device)
    predicted = (~torch.isin(targets, special)).nonzero()[:, 0]
    hidden = _hidden(capture.model, point, _versions(batch, sae), batch.token_ids)
    total = torch.zeros(5, dtype=torch.float64, device=hidden.device)
    size = max(1, MAX_CELLS // (3 * capture.model.vocab_size))
    for at in torch.split(predicted, size):
        log_p = _log_probabilities(capture.model, hidden[:, at])
        losses = -log_p.gather(-1, targets[at].expand(3, -1)[..., None])[..., 0]
        divergences = functional.kl_div(log_p[1:], log_p[:1].expand(2, -1, -1), reduction="none", log_target=True)
        total += torch.cat([part.sum(dims, dtype=torch.float64) for part, dims in ((losses, 1), (divergences, (1, 2)))])
    return [float(len(predicted)), *total.tolist()]


def _versions(batch: Batch, sae: SAE) -> Tensor:
    """[3, length, d_out]: one context's activations as they are, reconstructed, and zero where they count."""
    reconstructed, ablated = batch.y[0].clone(), batch.y[0].clone()
    reconstructed[batch.mask[0]] = sae(batch.x[batch.mask])
    ablated[batch.mask[0]] = 0
    versions = torch.stack([batch.y[0], reconstructed, ablated])
    return versions if batch.mean is None else versions + batch.mean


def _hidden(model: LoadedModel, point: Point, versions: Tensor, token_ids: Tensor) -> Tensor:
    """What the unembedding reads, [3, length, d]. One row runs up to the hook point and three go on from there.

    Whatever later layers keep from before is the same for all three and broadcasts. A few architectures shape it by
    the number of rows (ALiBi): there, three rows run from the start.
    """
    with _replacing(*point.place, versions if point.scale == 1 else versions / point.scale):
        try:
            output = model.arch.trunk(input_ids=token_ids, use_cache=False)
        except (RuntimeError, ValueError):
            output = model.arch.trunk(input_ids=token_ids.expand(3, -1), use_cache=False)
    hidden: Tensor = output[0]
    return hidden


def _log_probabilities(model: LoadedModel, hidden: Tensor) -> Tensor:
    """float32 [..., vocabulary], with the scale or cap that some models put on their logits."""
    cap, scale = model.engine.final_logit_softcapping, model.engine.logit_multiplier
    logits: Tensor = apply_logit_transform(model.arch.lm_head(hidden).float(), multiplier=scale, softcap=cap)
    return logits.log_softmax(-1)


@contextmanager
def _replacing(module: nn.Module, side: str, versions: Tensor) -> Iterator[None]:
    """Put ``versions`` in the place of what goes into or comes out of ``module``."""

    def instead(old: Tensor) -> Tensor:
        # Inside a mixture of experts the tokens of all rows come in one: that fails unless three run from the start.
        return (versions if old.dim() == versions.dim() else versions.reshape(old.shape)).to(old.dtype)

    def before(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if args:
            return (instead(args[0]), *args[1:]), kwargs
        return args, kwargs | {"hidden_states": instead(kwargs["hidden_states"])}

    def after(_: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple):
            return (instead(output[0]), *output[1:])
        return instead(output)

    if side == "input":
        handle = module.register_forward_pre_hook(before, with_kwargs=True)
    else:
        handle = module.register_forward_hook(after)
    try:
        yield
    finally:
        handle.remove()
