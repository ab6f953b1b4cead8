"""The features of an SAE as points on a map: directions that nearly agree lie close together, in clusters.

The neighbours are exact (jobs.engine.decoder). UMAP (McInnes, Healy & Melville 2018) places the points, from the first
two principal components, which keep what little global shape there is (Kobak & Linderman 2021) and depend on no chance.
HDBSCAN (Campello, Moulavi & Sander 2013) finds clusters on the map: its leaves, for the largest ones that it could
choose may be the whole map. umap and sklearn are imported where they are used: numba takes seconds to wake up.
"""

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from jobs.engine.decoder import RankedChunk, best, nearest, products
from jobs.engine.errors import SettingsError

LEAST = 8
"""Features, for a map."""
CLUSTERED = 50_000
"""HDBSCAN's time grows with the square: of more features it sees a sample, and the rest go by their nearest."""
NO_CLUSTER = -1
_PER_MAP = 450  # the smallest cluster is this part of the features, or _SMALLEST
_SMALLEST = 5
_ROUNDS = 12
_JUDGED = 2_000


def neighbours(directions: Tensor, n: int) -> Iterator[RankedChunk]:
    """Of each of ``directions`` [F, d], the ``n`` others with the highest cosine, a chunk of features at a time.

    Costs 2 F^2 d operations; of the [F, F] matrix only decoder.MAX_CELLS are there at a time. A row of zeros has cosine
    0 with every other. Raises SettingsError for fewer than LEAST features.
    """
    if len(directions) < LEAST:
        raise SettingsError(f"A map needs at least {LEAST} features, and the SAE has {len(directions)}.")
    unit = functional.normalize(directions, dim=-1)
    for start, cosine in products(unit, unit):
        ids, values = nearest(cosine, start, min(n, len(unit) - 1))
        yield RankedChunk(start, ids.cpu(), values.cpu())


def principal(directions: Tensor, seed: int) -> NDArray[np.float32]:
    """[F, d] -> the first two principal components of the unit directions, float32 [F, 2], the largest value at 10.

    By subspace iteration from a seeded start (Halko, Martinsson & Tropp 2011). Each component's sign is such that its
    value of largest size is positive.
    """
    unit = functional.normalize(directions, dim=-1)
    mean = unit.mean(0)
    start = np.random.default_rng(seed).standard_normal((unit.shape[1], 8))
    basis = torch.from_numpy(start).to(unit)
    for _ in range(_ROUNDS):
        scores = unit @ basis - mean @ basis
        basis = torch.linalg.qr(unit.T @ scores - mean[:, None] * scores.sum(0))[0]
    left, size, _ = torch.linalg.svd(unit @ basis - mean @ basis, full_matrices=False)
    found = (left * size)[:, :2].cpu().numpy()
    found *= np.sign(found[np.abs(found).argmax(0), [0, 1]])
    return np.ascontiguousarray(10 * found / (np.abs(found).max() or 1.0), np.float32)


def place(
    ids: NDArray[np.integer], cosines: NDArray[np.floating], start: NDArray[np.float32], min_dist: float, seed: int
) -> NDArray[np.float32]:
    """Points on the map, float32 [F, 2] within -1 and 1.

    ``ids`` and ``cosines`` [F, n] are the neighbours of each feature, best first; UMAP begins at ``start`` [F, 2]. The
    same numbers and ``seed`` give the same bytes on one machine, for one thread does it. Memory: the graph, some 40 n F
    bytes. Time: on one core about 25 s for 50,000 features, and 10 s for numba to compile.
    """
    import umap

    n = ids.shape[1] + 1  # UMAP counts the feature itself
    itself = np.arange(len(ids))[:, None]
    distances = np.concatenate([np.zeros_like(itself, np.float32), np.maximum(1 - cosines, 0)], axis=1)
    known = (np.concatenate([itself, ids], axis=1), distances.astype(np.float32), None)
    made = umap.UMAP(n_neighbors=n, min_dist=min_dist, random_state=seed, n_jobs=1, init=start, precomputed_knn=known)
    threads = torch.get_num_threads()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it cannot place further points later, which nobody asks for
            return scaled(made.fit_transform(start))
    finally:
        torch.set_num_threads(threads)  # numba sets OpenMP's, and with them torch's: sums would come out otherwise


def scaled(xy: NDArray[np.floating]) -> NDArray[np.float32]:
    """Centred, both axes by one factor, so that the farthest coordinate is 1 or -1."""
    centred = xy - (xy.min(0) + xy.max(0)) / 2
    return np.asarray(centred / (np.abs(centred).max() or 1.0), np.float32)


def clusters(xy: NDArray[np.float32], seed: int) -> NDArray[np.int16]:
    """[F, 2] -> the cluster of each point, NO_CLUSTER for those between them; number 0 is the largest."""
    from scipy.spatial import cKDTree
    from sklearn.cluster import HDBSCAN

    sample = np.arange(len(xy))
    if len(xy) > CLUSTERED:
        sample = np.sort(np.random.default_rng(seed).choice(len(xy), CLUSTERED, replace=False))
    least = max(_SMALLEST, len(sample) // _PER_MAP)
    finder = HDBSCAN(min_cluster_size=least, min_samples=5, cluster_selection_method="leaf", copy=True)
    found = finder.fit(xy[sample].astype(np.float64)).labels_
    if len(sample) < len(xy):
        found = found[cKDTree(xy[sample]).query(xy)[1]]
    return by_size(found)


def by_size(found: NDArray[np.integer]) -> NDArray[np.int16]:
    """Clusters numbered anew: the largest is 0, of equals the one with the lowest feature comes first."""
    numbers, first, sizes = np.unique(found[found >= 0], return_index=True, return_counts=True)
    anew = np.full(int(found.max(initial=0)) + 2, NO_CLUSTER, np.int16)  # the last is for -1
    anew[numbers[np.lexsort((first, -sizes))]] = np.arange(len(numbers))
    renumbered: NDArray[np.int16] = anew[found]
    return renumbered


def middles(directions: Tensor, cluster: NDArray[np.integer], n: int = 10) -> list[list[int]]:
    """Of each cluster numbered from 0, the ``n`` features whose directions are nearest to the mean of all of its.

    ``directions`` [F, d], ``cluster`` [F].
    """
    found = []
    for number in range(int(cluster.max(initial=NO_CLUSTER)) + 1):
        members = np.flatnonzero(cluster == number)
        unit = functional.normalize(directions[torch.from_numpy(members).to(directions.device)], dim=-1)
        nearest_first = best((unit @ unit.mean(0))[None], min(n, len(members)))[0]
        found.append(members[nearest_first.cpu().numpy()].tolist())
    return found


def kept(ids: NDArray[np.integer], xy: NDArray[np.float32], seed: int) -> float:
    """How true the map is: the share of features' nearest directions that are among as many nearest points.

    Over all features, or a seeded sample of 2,000.
    """
    from scipy.spatial import cKDTree

    n = min(_JUDGED, len(xy))
    judged = np.random.default_rng(seed).choice(len(xy), n, replace=False)
    near = cKDTree(xy).query(xy[judged], ids.shape[1] + 1)[1]
    pairs = zip(judged.tolist(), near.tolist(), ids[judged].tolist(), strict=True)
    hits = sum(len(set(near_one) - {i} & set(true)) for i, near_one, true in pairs)
    return float(hits / (n * ids.shape[1]))
