"""Every number of an extraction, computed slowly over the whole activation matrix, in plain Python and numpy."""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from jobs.engine.corpus import Context

QUARTER = 4  # histogram bins per octave


@dataclass
class Seen:
    """One context: activations [L, F], inputs and reconstructions [L, d], and which tokens count."""

    context: Context
    acts: np.ndarray
    x: np.ndarray
    x_hat: np.ndarray
    mask: np.ndarray


@dataclass
class FeatureTruth:
    n_firing: int = 0
    n_contexts: int = 0
    max_activation: float = 0.0
    firings: list[float] = field(default_factory=list)
    # (context number, peak, maximum, {position: value}, text around the peak), best first, one for each text
    ranked: list[tuple] = field(default_factory=list)


def feature_truth(seen: list[Seen], feature: int) -> FeatureTruth:
    truth = FeatureTruth()
    found = []
    for one in seen:
        values = {p: one.acts[p, feature] for p in range(len(one.mask)) if one.mask[p] and one.acts[p, feature] > 0}
        if not values:
            continue
        truth.n_contexts += 1
        truth.n_firing += len(values)
        truth.firings += values.values()
        maximum = max(values.values())
        peak = min(p for p, v in values.items() if v == maximum)
        ids = one.context.token_ids.tolist()
        around = tuple(ids[p] if 0 <= p < len(ids) else None for p in range(peak - 8, peak + 9))
        found.append((one.context.number, peak, maximum, values, around))
    found.sort(key=lambda row: (-row[2], row[0]))
    texts = set()
    for row in found:
        if row[4] not in texts:
            texts.add(row[4])
            truth.ranked.append(row)
    truth.max_activation = float(max(truth.firings, default=0.0))
    return truth


def histogram_truth(values: list[float], edges: np.ndarray) -> list[int]:
    plain = [float(v) for v in values]  # Python compares its own floats ten times as fast as numpy's
    return [sum(low <= v < high for v in plain) for low, high in pairwise(edges.tolist())]


def quality_truth(seen: list[Seen]) -> dict[str, float]:
    x = np.concatenate([s.x[s.mask] for s in seen]).astype(np.float64)
    x_hat = np.concatenate([s.x_hat[s.mask] for s in seen]).astype(np.float64)
    acts = np.concatenate([s.acts[s.mask] for s in seen])
    error = ((x - x_hat) ** 2).sum()
    variance = ((x - x.mean(0)) ** 2).sum()
    norms, norms_hat = np.linalg.norm(x, axis=1), np.linalg.norm(x_hat, axis=1)
    return {
        "n_tokens": len(x),
        "explained_variance": 1 - error / variance,
        "fvu": error / variance,
        "cosine": float(((x * x_hat).sum(1) / (norms * norms_hat)).mean()),
        "shrinkage": float((norms_hat / norms).mean()),
        "l0": float((acts != 0).sum(1).mean()),
    }
