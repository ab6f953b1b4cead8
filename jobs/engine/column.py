"""One feature's activation on every token of one text, as an extraction would keep it."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.engine import codes
from jobs.engine.capture import Capture
from jobs.engine.corpus import Context
from jobs.engine.extraction import NEAR_PER_TOKEN
from jobs.engine.saes import SAE


@dataclass(frozen=True)
class Column:
    """``values`` float32 [n], 0 where the feature does not fire or the token is masked.

    ``sinks``: positions that are masked and not special. ``near``: the position and the pre-activation of the token on
    which the feature came closest, if it fires nowhere and was among the near misses of any token.
    """

    values: NDArray[np.float32]
    sinks: list[int]
    near: tuple[int, float] | None


@torch.inference_mode()
def column(capture: Capture, sae: SAE, context: Context, index: int) -> Column:
    """Feature ``index`` on ``context``. ``capture`` has the run's sink threshold."""
    batch = capture.run([context])
    mask = batch.mask[0]
    positions = mask.nonzero().squeeze(1)
    found = codes.encode(sae, batch.x[batch.mask], NEAR_PER_TOKEN)
    values = torch.zeros(len(mask), device=mask.device)
    mine = found.firings.feature == index
    values[positions[found.firings.token[mine]]] = found.firings.value[mine].float()
    special = capture.model.special_ids
    sinks = [at for at in (~mask).nonzero().squeeze(1).tolist() if int(context.token_ids[at]) not in special]
    near = None if mine.any() else _nearest(found.near, positions, index)
    return Column(values.cpu().numpy(), sinks, near)


def _nearest(near: codes.Triples, positions: torch.Tensor, index: int) -> tuple[int, float] | None:
    mine = near.feature == index
    if not mine.any():
        return None
    best = near.value[mine].argmax()
    return int(positions[near.token[mine][best]]), float(near.value[mine][best])
