"""Densities as Plotly figures: plain dictionaries, so that no page imports the plotly package.

Colours are not in them: a trace names its ``tone`` in ``meta`` and the page paints it in its theme.
"""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.plots.bars import PER_DECADE
from features.plots.thin import thinned

Figure = dict[str, Any]


def density_histogram(density: NDArray[np.floating]) -> Figure:
    """Features per fifth of a decade of density; those that never fired stand in a bar of their own on the left."""
    alive = density[density > 0]
    n_dead = len(density) - len(alive)
    bins = np.floor(np.log10(alive) * PER_DECADE).astype(int) if len(alive) else np.array([-1])
    first = int(bins.min())
    counts = np.bincount(bins - first) if len(alive) else np.array([0])
    x = (first + np.arange(len(counts)) + 0.5) / PER_DECADE
    dead_at = float(x[0]) - 2 / PER_DECADE
    edges = [_range(first + i) for i in range(len(counts))]
    decades = range(int(np.ceil(x[0] - 0.5 / PER_DECADE - 1e-9)), int(np.floor(x[-1] + 0.5 / PER_DECADE + 1e-9)) + 1)
    return {
        "data": [
            {
                **_bar("dead", np.array([dead_at]), np.array([n_dead]), "dead"),
                "hovertemplate": "%{y:,} never fired<extra></extra>",
            },
            {
                **_bar("alive", x, counts, "data"),
                "customdata": edges,
                "hovertemplate": "%{y:,} features<br>density %{customdata}<extra></extra>",
            },
        ],
        "layout": {
            "xaxis": {
                "title": {"text": "density: share of tokens (log scale)"},
                "tickvals": [dead_at, *decades],
                "ticktext": ["dead", *(_power(d) for d in decades)],
                "showgrid": False,
                "zeroline": False,
            },
            "yaxis": {"title": {"text": "features"}, "rangemode": "tozero"},
            "bargap": 0.06,
            "showlegend": False,
        },
    }


def density_scatter(index: NDArray[np.integer], density: NDArray[np.floating], maximum: NDArray[np.floating]) -> Figure:
    """One point per feature that fired: density against its largest activation. ``customdata`` is its index.

    Of more than thin.MOST, some that lie on others are left out.
    """
    alive = np.flatnonzero((density > 0) & (maximum > 0))
    alive = alive[thinned(density[alive], maximum[alive])]
    n = len(alive)
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "markers",
                "x": typed(density[alive].astype("<f4")),
                "y": typed(maximum[alive].astype("<f4")),
                "customdata": typed(index[alive].astype("<i4")),
                "marker": {"size": 5 if n <= 2_000 else 3, "opacity": 0.55},
                "hovertemplate": "feature %{customdata}<br>density %{x:.3%}<br>maximum %{y:.3~g}<extra></extra>",
                "meta": {"tone": "data", "open": True},
            }
        ],
        "layout": {
            "xaxis": {"type": "log", "title": {"text": "density: share of tokens"}, "tickformat": "~%", "dtick": 1},
            "yaxis": {
                "type": "log",
                "title": {"text": "maximum activation"},
                "tickvals": _one_two_five(maximum[alive]),
            },
            "hovermode": "closest",
            "showlegend": False,
        },
    }


def _one_two_five(values: NDArray[np.floating]) -> list[float]:
    """1, 2, 5, 10, 20 ... around ``values``: Plotly's own labels for a log axis say 2 where they mean 20."""
    if not len(values):
        return [1.0]
    decades = range(int(np.floor(np.log10(values.min()))), int(np.ceil(np.log10(values.max()))) + 1)
    return [float(f"{step}e{decade}") for decade in decades for step in (1, 2, 5)]


def typed(values: NDArray[np.generic]) -> dict[str, str]:
    """Numbers as Plotly's typed arrays: four bytes each instead of a dozen characters."""
    return {"dtype": values.dtype.str[1:], "bdata": base64.b64encode(values.tobytes()).decode()}


def _bar(name: str, x: NDArray[np.floating], counts: NDArray[np.integer], tone: str) -> Figure:
    bar = {"type": "bar", "name": name, "x": typed(x.astype("<f8")), "y": typed(counts.astype("<i4"))}
    return {**bar, "width": 1 / PER_DECADE, "meta": {"tone": tone}}


def _range(number: int) -> str:
    low, high = (100 * 10 ** (edge / PER_DECADE) for edge in (number, number + 1))
    return f"{low:.2g}% to {high:.2g}%"


def _power(decade: int) -> str:
    return f"{100 * 10.0**decade:g}%"
