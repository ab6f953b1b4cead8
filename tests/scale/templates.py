"""Examples and histograms as real runs have them: templates by how often a feature fires, and what they share.

A template's highest value is exactly 1. A feature's own scale is a number added to the bit patterns of all its values:
that keeps their order and, within some percent, their proportions, and changes two spots of the packed bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.store.examples import BANDS, NEAR_MISS, VERSION
from features.store.integers import pack_column

N_EXAMPLES = 48
N_TOP, PER_BAND = 24, 4
N_BINS = 22
ONE = 0x3F800000  # the bits of 1.0

# Measured on a run of 4,608 features, in five classes from the rarest to the densest, which end at these shares of the
# live ones: the mean number of firing tokens of an example in each band, and of firing tokens a context; then the
# peaks of the bands in shares of the maximum, 5th to 95th percentile.
CLASS_ENDS = (0.165, 0.4, 0.67, 0.9)
MEAN_LENGTHS = (
    (2.17, 1.77, 1.38, 1.19, 1.07),
    (2.78, 2.01, 1.45, 1.25, 1.09),
    (3.67, 2.45, 1.64, 1.36, 1.10),
    (5.56, 3.56, 2.08, 1.50, 1.15),
    (10.9, 6.90, 3.56, 2.20, 1.40),
)
FIRING_A_CONTEXT = (1.41, 1.57, 1.82, 2.39, 5.41)
PEAKS = ((0.5, 0.99), (0.2, 0.7), (0.12, 0.42), (0.08, 0.3), (0.04, 0.2), (0.005, 0.035))


@dataclass(frozen=True)
class Template:
    """The packed examples of one feature, but for contexts, in three pieces, and the lowest bits of both value columns.

    ``weights`` [N_BINS] is the share of firing tokens in each bin of the histogram, lowest first.
    """

    n_firing: int
    n: int
    head: bytes
    middle: bytes
    lowest: int
    values: bytes
    lowest_near: int
    values_near: bytes
    weights: NDArray[np.float64]

    def pack(self, contexts: bytes, shift: int) -> bytes:
        """``contexts``: the packed column of ``n`` numbers; ``shift`` is added to the bits of all values."""
        firing = (self.lowest + shift).to_bytes(4, "little") + self.values
        near = (self.lowest_near + shift).to_bytes(4, "little") + self.values_near
        return self.head + contexts + self.middle + firing + near


@dataclass(frozen=True)
class Templates:
    """``common`` [class][i], and ``rare`` [contexts in which it fires][i] below N_EXAMPLES - 8."""

    common: list[list[Template]]
    rare: list[list[Template]]

    @classmethod
    def make(cls, seed: int, each: int, each_rare: int) -> "Templates":
        rng = np.random.default_rng([seed, 2])
        full = [N_TOP] + [PER_BAND] * 6
        common = [[_make(rng, full, means) for _ in range(each)] for means in MEAN_LENGTHS]
        n_rare = N_TOP + 4 * PER_BAND
        rare = [[_make(rng, _rare(n), MEAN_LENGTHS[0]) for _ in range(each_rare)] for n in range(1, n_rare)]
        return cls(common, [[], *rare])


def _rare(n: int) -> list[int]:
    """Examples of each band where a feature fires in ``n`` contexts, all of them shown."""
    rest = max(0, n - N_TOP)
    return [min(n, N_TOP), *(rest // 4 + (i < rest % 4) for i in range(4)), PER_BAND, PER_BAND]


def _make(rng: np.random.Generator, counts: Sequence[int], means: Sequence[float]) -> Template:
    bands = np.repeat(np.arange(len(BANDS)), counts)
    n_firing = sum(counts[:NEAR_MISS])
    lengths = np.minimum(rng.geometric(1 / np.array(means)[bands[:n_firing]]), 60)
    low, high = np.array(PEAKS)[bands[: n_firing + counts[NEAR_MISS]]].T
    peaks = low + (high - low) * rng.random(len(low))
    peaks = peaks[np.lexsort((-peaks, bands[: len(peaks)]))]
    peaks[0] = 1
    steps = np.concatenate([_steps(rng, int(n)) for n in [*lengths, *[1] * counts[NEAR_MISS]]])
    values = np.repeat(peaks[:n_firing], lengths) * rng.uniform(0.1, 0.95, int(lengths.sum()))
    ends = np.cumsum(lengths)
    values[(ends - lengths) + (rng.random(n_firing) * lengths).astype(np.int64)] = peaks[:n_firing]
    firing, near = (part.astype("<f4").view("<u4").astype(np.int64) for part in (values, peaks[n_firing:]))
    return Template(
        n_firing=n_firing,
        n=len(bands),
        head=bytes([VERSION]) + pack_column(np.array(counts)),
        middle=pack_column(lengths - 1) + pack_column(steps),
        lowest=int(firing.min()),
        values=pack_column(firing - firing.min()),
        lowest_near=int(near.min()),
        values_near=pack_column(near - near.min()),
        weights=_weights(rng),
    )


def _steps(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """The first of ``n`` positions that lie about together in a context of 128, then the steps between them less 1."""
    window = min(127, 12 * n)
    start = 1 + int(rng.integers(0, 128 - window))
    positions = start + np.sort(rng.choice(window, n, replace=False))
    return np.concatenate([positions[:1], np.diff(positions) - 1])


def _weights(rng: np.random.Generator) -> NDArray[np.float64]:
    """A bell over bins of a quarter of an octave, its middle two octaves below the maximum, more or less."""
    bins = np.arange(N_BINS)[::-1]
    weights = np.exp(-(((bins - rng.uniform(6, 12)) / rng.uniform(2.5, 4.5)) ** 2) / 2)
    weights /= weights.sum()
    return weights
