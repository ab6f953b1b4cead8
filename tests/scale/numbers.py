"""How often and how strongly each feature of an SAE fires: what tables are sorted by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.store.histogram import PER_OCTAVE, edges
from tests.scale.templates import (
    CLASS_ENDS,
    FIRING_A_CONTEXT,
    N_BINS,
    N_EXAMPLES,
    N_TOP,
    ONE,
    PER_BAND,
    Template,
    Templates,
)
from tests.scale.texts import LENGTH

DEAD_SHARE = 0.08
MEDIAN_DENSITY, SPREAD = 3e-4, 2.0  # log-normal, cut to the bounds
LOWEST_DENSITY, HIGHEST_DENSITY = 1e-6, 0.3
FIRST_BIN = -16 * PER_OCTAVE


@dataclass(frozen=True)
class Numbers:
    """Arrays [F]. ``template`` is an index into ``templates``, -1 for dead features; ``counts`` [F, N_BINS]."""

    templates: list[Template]
    n_firing: NDArray[np.int64]
    n_contexts: NDArray[np.int64]
    maximum: NDArray[np.float32]
    mean: NDArray[np.float64]
    template: NDArray[np.int64]
    shift: NDArray[np.int64]
    top_bin: NDArray[np.int64]
    counts: NDArray[np.int32]


def make_numbers(rng: np.random.Generator, d_sae: int, n_contexts: int, templates: Templates) -> Numbers:
    """Of a run over ``n_contexts`` contexts of LENGTH tokens, one of them special."""
    n_tokens = n_contexts * (LENGTH - 1)
    density = np.clip(MEDIAN_DENSITY * np.exp(SPREAD * rng.standard_normal(d_sae)), LOWEST_DENSITY, HIGHEST_DENSITY)
    n_firing = np.maximum(1, np.rint(density * n_tokens)).astype(np.int64)
    n_firing[rng.random(d_sae) < DEAD_SHARE] = 0
    of_class = np.searchsorted(np.quantile(n_firing[n_firing > 0], CLASS_ENDS), n_firing)
    ratio = np.array(FIRING_A_CONTEXT)[of_class] * rng.uniform(0.8, 1.3, d_sae)
    room = n_contexts - 2 * PER_BAND  # a feature has contexts in which it is silent
    most = np.minimum(n_firing, room)
    cited = np.clip(np.rint(n_firing / ratio).astype(np.int64), np.minimum(1, most), most)
    # A context holds no more firing tokens than it has.
    cited = np.maximum(cited, np.minimum(-(-n_firing // (LENGTH - 1)), room))
    flat, chosen = _choose(rng, templates, of_class, cited)
    maximum = _maxima(rng, d_sae)
    maximum[n_firing == 0] = 0
    top = np.searchsorted(edges(FIRST_BIN, 32 * PER_OCTAVE), maximum, side="right") - 1 + FIRST_BIN
    counts = _histograms(rng, n_firing, chosen, flat)
    middles = np.exp2((top[:, None] - np.arange(N_BINS)[::-1] + 0.5) / PER_OCTAVE)
    total = (np.minimum(middles, maximum[:, None]) * counts).sum(axis=1)
    return Numbers(
        templates=flat,
        n_firing=n_firing,
        n_contexts=cited,
        maximum=maximum,
        mean=total / np.maximum(n_firing, 1),
        template=chosen,
        shift=maximum.view(np.uint32).astype(np.int64) - ONE,
        top_bin=top,
        counts=counts,
    )


def _choose(
    rng: np.random.Generator, templates: Templates, of_class: NDArray[np.int64], cited: NDArray[np.int64]
) -> tuple[list[Template], NDArray[np.int64]]:
    """All templates in one list, and the number there of each feature's."""
    common, rare = len(templates.common[0]), len(templates.rare[1])
    flat = [t for group in (*templates.common, *templates.rare[1:]) for t in group]
    n_common = common * len(templates.common)
    drawn = rng.random(len(cited))
    chosen = of_class * common + (drawn * common).astype(np.int64)
    few = cited < N_TOP + 4 * PER_BAND
    chosen[few] = (n_common + (cited - 1) * rare + (drawn * rare).astype(np.int64))[few]
    chosen[cited == 0] = -1
    return flat, chosen


def _maxima(rng: np.random.Generator, n: int) -> NDArray[np.float32]:
    """Log-normal about 20, and one in a hundred on a tail that falls as its square."""
    body = 20 * np.exp(0.5 * rng.standard_normal(n))
    tail = 40 * (1 - rng.random(n)) ** -0.5
    return np.minimum(np.where(rng.random(n) < 0.01, tail, body), 5_000).astype(np.float32)


def _histograms(
    rng: np.random.Generator, n_firing: NDArray[np.int64], chosen: NDArray[np.int64], templates: list[Template]
) -> NDArray[np.int32]:
    """Counts of each feature's bins, which add up to ``n_firing``; the last one holds the maximum."""
    weights = np.array([template.weights for template in templates])
    counts = np.zeros((len(n_firing), N_BINS), np.int32)
    alive = np.flatnonzero(chosen >= 0)
    for part in np.array_split(alive, max(1, len(alive) // 65_536)):
        counts[part] = rng.multinomial(n_firing[part], weights[chosen[part]])
    without = alive[counts[alive, -1] == 0]
    counts[without, counts[without].argmax(axis=1)] -= 1
    counts[without, -1] += 1
    return counts


def contexts_of(rng: np.random.Generator, d_sae: int, n_contexts: int) -> NDArray[np.int32]:
    """N_EXAMPLES different contexts for each feature: steps of a number that has no factor in common with all."""
    steps = rng.integers(1, n_contexts, 4096)
    steps = steps[np.gcd(steps, n_contexts) == 1]
    step = rng.choice(steps, d_sae)
    start = rng.integers(0, n_contexts, d_sae)
    found = (start[:, None] + step[:, None] * np.arange(N_EXAMPLES)) % n_contexts
    return found.astype(np.int32)
