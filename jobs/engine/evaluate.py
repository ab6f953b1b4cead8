"""Measure an SAE on text: the figures of quality.py and the share of features that never fire."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from jobs.engine.capture import Capture
from jobs.engine.corpus import Context
from jobs.engine.quality import Quality, QualitySums
from jobs.engine.saes import SAE


@dataclass(frozen=True)
class Evaluation:
    """``dead``: share of features that fired on none of ``quality.n_tokens`` tokens."""

    quality: Quality
    dead: float


def evaluate(capture: Capture, sae: SAE, contexts: Sequence[Context], batch: int = 32) -> Iterator[int | Evaluation]:
    """Yield the number of contexts done after each batch, and at last the Evaluation."""
    sums = QualitySums(sae.d_out)
    fired = torch.zeros(sae.d_sae, dtype=torch.bool)
    done = 0
    for run in capture.batches(contexts, batch):
        x = run.x[run.mask]
        with torch.inference_mode():
            acts = sae.encode(x)
            sums.update(run.y[run.mask], sae.decode(acts, x), int((acts != 0).sum()))
        fired |= (acts != 0).any(0).cpu()
        done += len(run.contexts)
        yield done
    yield Evaluation(sums.result(), float((~fired).float().mean()))
