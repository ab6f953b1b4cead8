"""Which features fire on the same tokens, from a sample of tokens."""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from jobs.engine.decoder import best

MAX_CELLS = 1 << 20  # of a chunk's counts and co-firing pairs together: 8 MiB, which stays in cache
LEAST_COMMON = 3  # tokens: below it an overlap is chance


def partners(
    token: NDArray[np.int64], feature: NDArray[np.int32], n_features: int, n: int = 8
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The features that fire most nearly on the same tokens as each feature: int64 [F, n] ids, float32 [F, n] overlaps.

    ``token`` and ``feature`` [m] are the firings on a sample of tokens, each once, sorted by token. The overlap of two
    features is the share of the sampled tokens on which either fires that both fire on (Jaccard 1901). Best first, of
    equal float32 overlaps the lower id first. Features with fewer than LEAST_COMMON tokens in common are no partners;
    id -1 and overlap 0 stand where there are too few.

    Time grows with the co-firing pairs (m times the features per token) and with F^2. Memory grows with m and F: the
    counts of [F, F] are made a few features at a time.
    """
    n_firing = np.bincount(feature, minlength=n_features)
    ids = np.full((n_features, n), -1, np.int64)
    overlaps = np.zeros((n_features, n), np.float32)
    for start, common in _common_tokens(token, feature, n_firing):
        rows, other = np.divmod(np.flatnonzero(common >= LEAST_COMMON), n_features)
        both = common[rows, other]
        overlap = both / (n_firing[start + rows] + n_firing[other] - both)
        chunk = slice(start, start + len(common))
        ids[chunk], overlaps[chunk] = _best_of_each(rows, other, overlap.astype(np.float32), len(common), n)
    return ids, overlaps


def _common_tokens(
    token: NDArray[np.int64], feature: NDArray[np.int32], n_firing: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """For features ``start`` to ``start + rows``: int64 [rows, F], tokens in common with each; 0 with themselves."""
    n_features = len(n_firing)
    first = np.flatnonzero(np.diff(token, prepend=-1))  # where each token's firings begin
    size = np.diff(first, append=len(token))
    by_feature = np.argsort(feature, kind="stable")
    group = np.repeat(np.arange(len(first)), size)[by_feature]  # the token of each firing, by feature
    begin, pairs, row = first[group], size[group], feature[by_feature].astype(np.int64)
    columns, ends = feature.astype(np.int64), np.cumsum(n_firing)
    for start, stop in _chunks(n_features + np.bincount(row, pairs, n_features).astype(np.int64)):
        mine = slice(ends[start] - n_firing[start], ends[stop - 1])
        reach = np.cumsum(pairs[mine])
        # Every firing of a feature pairs with all firings of its token, which stand in a row.
        at = np.repeat(begin[mine] - reach + pairs[mine], pairs[mine]) + np.arange(reach[-1] if len(reach) else 0)
        cell = columns[at] + np.repeat((row[mine] - start) * n_features, pairs[mine])
        common = np.bincount(cell, minlength=(stop - start) * n_features).reshape(-1, n_features)
        common[np.arange(stop - start), np.arange(start, stop)] = 0
        yield start, common


def _chunks(cost: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Runs of features, each of a ``cost`` of about MAX_CELLS together, or one feature alone that costs more."""
    starts = np.flatnonzero(np.diff(np.cumsum(cost) // MAX_CELLS, prepend=-1))
    return zip(starts.tolist(), [*starts[1:].tolist(), len(cost)], strict=True)


def _best_of_each(
    rows: NDArray[np.int64], other: NDArray[np.int64], overlap: NDArray[np.float32], n_rows: int, n: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ``n`` highest overlaps of each row; ``rows`` is sorted, and ``other`` ascends within a row."""
    found = np.bincount(rows, minlength=n_rows)
    place = np.arange(len(rows)) - np.repeat(np.cumsum(found) - found, found)
    values = np.zeros((n_rows, max(n, int(found.max()))), np.float32)
    ids = np.full(values.shape, -1, np.int64)
    values[rows, place], ids[rows, place] = overlap, other
    top = best(torch.from_numpy(values), n).numpy()
    return np.take_along_axis(ids, top, 1), np.take_along_axis(values, top, 1)
