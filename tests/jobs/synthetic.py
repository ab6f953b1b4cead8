"""What an extraction finds, made up: tables of any size without a model, in the proportions of a real run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs.engine.corpus import Context
from jobs.engine.examples import Columns, Selection
from jobs.engine.labels import RuleLabel
from jobs.engine.statistics import N_BINS
from jobs.packing import Lists, Statistics, Tables, Weights

LENGTH = 128
VOCABULARY = 49_152
PER_BAND = (24, 4, 4, 4, 4, 4, 4)  # top, quarters, near misses, silent
MEAN_LENGTH = (4.2, 2.8, 2.0, 1.5, 1.1, 1.0, 0.0)


class Contexts(Sequence[Context]):
    """``n`` windows of random tokens, the same each time they are asked for."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, number: Any) -> Any:
        # As in a vocabulary made by merging: the id of a token is about its rank by frequency.
        ids = np.exp(np.random.default_rng(number).uniform(3, np.log(VOCABULARY), LENGTH)).astype(np.int32)
        return Context(number, f"document-{number // 3:07d}", "a-corpus.jsonl", LENGTH * (number % 3), ids)


def make_tables(d_sae: int, n_contexts: int, seed: int = 0, per_band: Sequence[int] = PER_BAND) -> Tables:
    """Every feature fires, and has ``per_band`` examples of each band, all in different contexts."""
    rng = np.random.default_rng(seed)
    selection = _selection(rng, d_sae, n_contexts, per_band)
    n_firing = rng.integers(100, 10_000, d_sae, np.int64)
    histograms = np.zeros((d_sae, N_BINS), np.int64)
    histograms[:, 56:76] = rng.geometric(0.01, (d_sae, 20))
    return Tables(
        weights=Weights(
            logits=_lists(rng, d_sae, 2, 10, VOCABULARY),
            neighbours=_lists(rng, d_sae, 2, 10, d_sae),
            norms=np.ones(d_sae, np.float32),
            cosines=rng.random(d_sae, np.float32),
        ),
        statistics=Statistics(1_000_000, n_firing, n_firing // 3, 1.5 * n_firing.astype(np.float64), histograms),
        selection=selection,
        partners=_lists(rng, d_sae, 1, 8, d_sae),
        labels=[(i, RuleLabel(f"“ word {i}”", "token", 0.75, 12, 12)) for i in range(0, d_sae, 2)],
        contexts=Contexts(n_contexts),
    )


def _selection(rng: np.random.Generator, d_sae: int, n_contexts: int, per_band: Sequence[int]) -> Selection:
    n = sum(per_band)
    bands = np.repeat(np.arange(len(per_band), dtype=np.uint8), per_band)
    # Steps of a prime that does not divide n_contexts lead to different contexts.
    context = (rng.integers(0, n_contexts, d_sae)[:, None] + 1_000_003 * np.arange(n)) % n_contexts
    mean = np.tile(np.array(MEAN_LENGTH)[bands], d_sae)
    length = np.where(mean > 1, np.minimum(1 + rng.poisson(np.maximum(mean - 1, 0)), 20), mean.astype(int))
    value = np.where(mean > 0, np.exp(rng.normal(1, 0.5, d_sae * n)), 0).astype(np.float32)
    band = np.tile(bands, d_sae)
    feature = np.repeat(np.arange(d_sae, dtype=np.int32), n)
    order = np.lexsort((-value, band, feature))
    value = value[order]
    ends = np.cumsum(length)
    within = np.arange(ends[-1]) - np.repeat(ends - length, length)
    positions = np.repeat(rng.integers(0, LENGTH - 2 * 20, d_sae * n), length) + 2 * within
    values = np.repeat(value, length) * rng.uniform(0.2, 0.99, ends[-1])
    peaks = (ends - length)[length > 0]
    values[peaks] = value[length > 0]
    peak = np.zeros(d_sae * n, np.int16)
    peak[length > 0] = positions[peaks]
    rows = Columns(
        feature=feature,
        context=context.ravel().astype(np.int32),
        value=value,
        peak=peak,
        priority=np.zeros(d_sae * n, np.int64),
        length=length.astype(np.int16),
        positions=positions.astype(np.int16),
        values=values.astype(np.float32),
    )
    return Selection(rows, band)


def _lists(rng: np.random.Generator, d_sae: int, n_lists: int, n: int, high: int) -> Lists:
    values: NDArray[np.float32] = -np.sort(-rng.random((d_sae, n_lists, n), np.float32))
    return Lists(rng.integers(0, high, (d_sae, n_lists, n)).astype(np.int32), values)
