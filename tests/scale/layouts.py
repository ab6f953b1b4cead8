"""Maps: features as points in clusters, a third of them in none."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.models import SAE, Layout
from features.store.layout import NO_CLUSTER, pack_clusters, pack_points
from tests.scale.texts import make_phrases
from tests.scale.vocabulary import Vocabulary

LOOSE_SHARE = 1 / 3
PER_CLUSTER, MOST = 800, 400


def make_layout(rng: np.random.Generator, words: Vocabulary, sae: SAE) -> Layout:
    """Clusters are round, of unlike sizes, and lie anywhere from -1 to 1."""
    n = min(MOST, max(2, sae.d_sae // PER_CLUSTER))
    cluster = np.minimum((n * rng.random(sae.d_sae) ** 1.5).astype(np.int64), n - 1)
    cluster[rng.random(sae.d_sae) < LOOSE_SHARE] = NO_CLUSTER
    middles = rng.uniform(-0.9, 0.9, (n, 2))
    xy = middles[cluster] + rng.normal(0, 0.03, (sae.d_sae, 2))
    loose = cluster == NO_CLUSTER
    xy[loose] = rng.uniform(-1, 1, (int(loose.sum()), 2))
    sizes = np.bincount(cluster[~loose], minlength=n).tolist()
    return Layout.objects.create(
        sae=sae,
        method="umap",
        settings={"n_neighbors": 15, "min_dist": 0.05, "seed": 0},
        provenance={"kept": 0.5},
        xy=pack_points(np.clip(xy, -1, 1)),
        cluster=pack_clusters(cluster),
        clusters=_clusters(middles, sizes, make_phrases(words, n)),
        seconds=60.0,
    )


def _clusters(middles: NDArray[np.float64], sizes: list[int], names: list[str]) -> list[dict[str, Any]]:
    return [
        {"number": i, "name": name, "size": size, "x": x, "y": y, "why": "their labels share these words"}
        for i, ((x, y), size, name) in enumerate(zip(middles.tolist(), sizes, names, strict=True))
    ]
