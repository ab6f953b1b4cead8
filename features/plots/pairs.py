"""One number of each feature in two runs, as a Plotly figure."""

import numpy as np
from numpy.typing import NDArray

from features.plots.density import Figure, typed
from features.plots.thin import thinned

MOST = 8_000
"""Points that are drawn, all of them as SVG: WebGL in Plotly needs eval, which the site's security policy forbids."""


def density_pairs(a: NDArray[np.floating], b: NDArray[np.floating]) -> Figure:
    """Density in one run against that in another, of the features that fired in both; ``customdata`` is the index.

    Of more than MOST, some that lie on others are left out.
    """
    shown = np.flatnonzero((a > 0) & (b > 0))
    shown = shown[thinned(a[shown], b[shown], MOST)]
    x, y = a[shown].astype("<f4"), b[shown].astype("<f4")
    ends = [float(min(x.min(), y.min())), float(max(x.max(), y.max()))] if len(shown) else []
    axis = {"type": "log", "tickformat": "~%", "dtick": 1}
    return {
        "data": [
            {
                "type": "scatter",
                "mode": "lines",
                "x": ends,
                "y": ends,
                "hoverinfo": "skip",
                "line": {"width": 1, "dash": "dot"},
                "meta": {"tone": "dead"},
            },
            {
                "type": "scatter",
                "mode": "markers",
                "x": typed(x),
                "y": typed(y),
                "customdata": typed(shown.astype("<i4")),
                "marker": {"size": 4, "opacity": 0.5},
                "hovertemplate": "feature %{customdata}<br>%{x:.3%} to %{y:.3%}<extra></extra>",
                "meta": {"tone": "data"},
            },
        ],
        "layout": {
            "xaxis": axis | {"title": {"text": "density in the first run"}},
            "yaxis": axis | {"title": {"text": "density in the second run"}},
            "hovermode": "closest",
            "showlegend": False,
        },
    }
