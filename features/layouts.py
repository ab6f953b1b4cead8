"""Maps of an SAE's features as pages read them: the newest layout, its bytes for a browser, what was chosen on it.

The browser is sent little-endian arrays, one after the other, each [d_sae]: x and y as uint16 from -1 to 1, cluster as
int16 (-1 for none), and density as uint16: 0 for a feature that never fired, else log10 of it from LOG_LOW to 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.columns import columns_of
from features.evidence import NotFound
from features.models import SAE, Activity, Feature, Layout, Run
from features.plots.bars import Sparkline, sparkline
from features.store.histogram import unpack_histogram
from features.store.layout import quantised, unpack_clusters, unpack_points

LOG_LOW = -7.0
SHOWN = 50
MOST = 10_000
"""Features of a selection: what a collection holds."""
MAX_ADDRESS = 3500
"""Characters of a list of features in an address: servers refuse lines that are not much longer."""


@dataclass(frozen=True)
class Line:
    """A feature of a selection; without a run, nothing but its label is known."""

    feature: Feature
    activity: Activity | None
    sparkline: Sparkline | None


@dataclass(frozen=True)
class Chosen:
    """Features that were chosen on a map: ``indexes`` by density, the highest first; ``lines`` of the first SHOWN."""

    indexes: list[int]
    lines: list[Line]

    @property
    def listed(self) -> str:
        """All of them as a form posts them."""
        return ",".join(map(str, self.indexes))

    @property
    def ids(self) -> str:
        """All of them for an address; empty where they are too many for one."""
        text = ",".join(map(str, sorted(self.indexes)))
        return text if len(text) <= MAX_ADDRESS and len(self.indexes) <= 1000 else ""


def newest_layout(sae: SAE) -> Layout | None:
    """Without its points: one query."""
    return Layout.objects.filter(sae=sae).defer("xy", "cluster").first()


def find_layout(sae: SAE, pk: int | None = None) -> Layout:
    """The layout of ``sae`` with this key; without one, the newest: one query."""
    found = Layout.objects.filter(sae=sae)
    layout = found.first() if pk is None else found.filter(pk=pk).first()
    if layout is None:
        raise NotFound("This SAE has no map yet." if pk is None else f"This SAE has no map {pk}.")
    return layout


def indexes_of_cluster(layout: Layout, number: int) -> NDArray[np.int64]:
    """The features of a cluster, ascending. NotFound for a number that no cluster has."""
    found = np.flatnonzero(unpack_clusters(bytes(layout.cluster)) == number) if number >= 0 else np.empty(0, np.int64)
    if not len(found):
        raise NotFound(f"The map has no cluster {number}.")
    return found.astype(np.int64)


def map_bytes(layout: Layout, run: Run | None) -> bytes:
    """What the top of this file says; densities are those of ``run``, all 0 without one."""
    x, y = unpack_points(bytes(layout.xy)).T
    density = columns_of(run).density if run else np.zeros(len(x))
    return b"".join(
        [
            quantised(x, -1, 1).tobytes(),
            quantised(y, -1, 1).tobytes(),
            bytes(layout.cluster),
            quantised_density(density).tobytes(),
        ]
    )


def quantised_density(density: NDArray[np.floating]) -> NDArray[np.uint16]:
    """0 for 0; else in steps of 0.025 %, at least 1."""
    with np.errstate(divide="ignore"):
        steps = quantised(np.log10(density), LOG_LOW, 0)
    return np.where(density > 0, np.maximum(steps, 1), 0).astype("<u2")


def chosen(sae: SAE, run: Run | None, indexes: Sequence[int]) -> Chosen:
    """Features by their numbers, of which those that do not exist are left out: one query."""
    known = np.unique(np.array([i for i in indexes if 0 <= i < sae.d_sae], np.int64))
    if run is not None:
        known = known[np.argsort(-columns_of(run).density[known], kind="stable")]
    return Chosen(known.tolist(), _lines(sae, run, known[:SHOWN].tolist()))


def _lines(sae: SAE, run: Run | None, indexes: list[int]) -> list[Line]:
    if run is None:
        features = Feature.objects.filter(sae=sae, index__in=indexes).select_related("label__author")
        bare = {feature.index: feature for feature in features.defer("logits", "neighbours")}
        return [Line(bare[index], None, None) for index in indexes if index in bare]
    rows = Activity.objects.filter(run=run, index__among=indexes).for_table().defer("examples")
    known = {row.index: row for row in rows}
    return [
        Line(row.feature, row, sparkline(unpack_histogram(bytes(row.histogram))))
        for index in indexes
        if (row := known.get(index))
    ]
