"""Histograms as the shapes of an inline SVG: small pictures that need no script."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from features.store.histogram import Histogram, edges, first_bin

WIDTH, HEIGHT = 360, 120
PER_DECADE = 5


@dataclass(frozen=True, slots=True)
class Sparkline:
    """An SVG path in a box ``width`` wide and 20 high; empty for a feature that never fired."""

    path: str
    width: int


@dataclass(frozen=True, slots=True)
class Bar:
    x: float
    y: float
    width: float
    height: float
    tip: str


@dataclass(frozen=True, slots=True)
class Tick:
    at: float
    text: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars and ticks in a box WIDTH wide and HEIGHT high; the axes are drawn outside it."""

    bars: list[Bar]
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    width: int = WIDTH
    height: int = HEIGHT
    middle: int = WIDTH // 2
    centre: int = HEIGHT // 2
    foot: int = HEIGHT + 5
    box_width: int = WIDTH + 82
    box_height: int = HEIGHT + 54
    title: str = ""
    x_axis: str = ""
    y_axis: str = ""


def sparkline(histogram: Histogram) -> Sparkline:
    """Counts per bin against the fullest bin, two units a bin."""
    counts = histogram.counts.tolist()
    if not counts:
        return Sparkline("", 0)
    unit = 20 / max(counts)
    bars = [f"M{2 * i} 20v{-max(1.0, unit * count):.3g}h1.6V20z" for i, count in enumerate(counts) if count]
    return Sparkline("".join(bars), 2 * len(counts))


def activation_chart(histogram: Histogram) -> BarChart | None:
    """Firing tokens per log2 bin of activation; None for a feature that never fired."""
    counts = [int(c) for c in histogram.counts]
    if not counts:
        return None
    step, most = WIDTH / len(counts), max(counts)
    bars = []
    for i, count in enumerate(counts):
        if count:
            height = max(1.0, HEIGHT * count / most)
            low, high = (f"{edge:.3g}" for edge in histogram.edges[i : i + 2])
            tip = f"{count:,} tokens from {low} to {high}"
            bars.append(
                Bar(round(i * step, 2), round(HEIGHT - height, 2), round(step * 0.86, 2), round(height, 2), tip)
            )
    ticks = [Tick(0, f"{most:,}"), Tick(HEIGHT, "0")]
    own = first_bin(histogram) is not None  # what was imported keeps the bins it was counted in
    return BarChart(
        bars,
        _octaves(histogram, step),
        ticks,
        title=f"Histogram: tokens per activation, bins {'a quarter of an octave wide' if own else 'as imported'}",
        x_axis="activation (log scale)" if own else "activation",
        y_axis="tokens",
    )


def density_chart(first: int, counts: Sequence[int], n_dead: int) -> BarChart:
    """Features per fifth of a decade of density, from bin ``first``; those that never fired stand on the left."""
    every = [n_dead, 0, *counts]
    step, most = WIDTH / len(every), max(every)
    bars = []
    for i, count in enumerate(every):
        if count:
            height = max(1.0, HEIGHT * count / most)
            low, high = (f"{10 ** ((first + i - 2 + edge) / PER_DECADE):.2g}" for edge in (0, 1))
            tip = f"{count:,} features from {low} to {high}" if i > 1 else f"{count:,} features never fired"
            bars.append(
                Bar(round(i * step, 2), round(HEIGHT - height, 2), round(step * 0.86, 2), round(height, 2), tip)
            )
    decades = [(i, first + i - 2) for i in range(2, len(every) + 1) if (first + i - 2) % PER_DECADE == 0]
    ticks = [Tick(round(i * step, 2), f"1e{at // PER_DECADE}" if at else "1") for i, at in decades]
    dead = [Tick(round(step / 2, 2), "dead")] if n_dead else []
    return BarChart(
        bars,
        dead + ticks,
        [Tick(0, f"{most:,}"), Tick(HEIGHT, "0")],
        title="Histogram: features per density, bins a fifth of a decade wide",
        x_axis="density: share of tokens (log scale)",
        y_axis="features",
    )


def aligned(*histograms: Histogram) -> list[Histogram]:
    """The same bins for all of those that have any, so that their charts share an axis; as they are, if any was counted
    elsewhere, in bins of its own.
    """
    filled = [h for h in histograms if len(h.counts)]
    firsts = [first for h in filled if (first := first_bin(h)) is not None]
    if not filled or len(firsts) < len(filled):
        return list(histograms)
    low, high = min(firsts), max(first + len(h.counts) for first, h in zip(firsts, filled, strict=True))
    return [_padded(h, low, high) if len(h.counts) else h for h in histograms]


def _padded(histogram: Histogram, low: int, high: int) -> Histogram:
    counts = np.zeros(high - low, np.uint64)
    start = (first_bin(histogram) or 0) - low
    counts[start : start + len(histogram.counts)] = histogram.counts
    return Histogram(edges(low, high - low), counts)


def _octaves(histogram: Histogram, step: float) -> list[Tick]:
    """Powers of two, or every second, fourth ... of them: at most seven labels fit."""
    octave = np.log2(np.maximum(histogram.edges.astype(float), 1e-45))  # what was imported may begin at 0
    whole = [(i, round(o)) for i, o in enumerate(octave) if abs(o - round(o)) < 0.01]
    every = 1
    while len(whole) > 7 * every:
        every *= 2
    if len(whole) < 2:
        return [Tick(0, f"{histogram.edges[0]:.3g}"), Tick(WIDTH, f"{histogram.edges[-1]:.3g}")]
    return [Tick(round(i * step, 2), f"{2.0**o:g}" if o > -7 else f"{2.0**o:.1e}") for i, o in whole if not o % every]
