"""Which features fire together, against sets of tokens in plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.engine import cooccurrence

SAMPLES = st.lists(st.sets(st.integers(0, 11), max_size=9), max_size=24)


def columns(sample: list[set[int]], gap: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """The firings of a sample of tokens, which are ``gap`` apart."""
    pairs = [(gap * token, feature) for token, features in enumerate(sample) for feature in sorted(features)]
    token, feature = np.array(pairs, np.int64).reshape(-1, 2).T
    return token, feature.astype(np.int32)


def brute_force(sample: list[set[int]], n_features: int, n: int) -> tuple[list[list[int]], list[list[float]]]:
    tokens = [{t for t, features in enumerate(sample) if f in features} for f in range(n_features)]
    ids, overlaps = [], []
    for a in range(n_features):
        found = [
            (-np.float32(len(tokens[a] & tokens[b]) / len(tokens[a] | tokens[b])), b)
            for b in range(n_features)
            if b != a and len(tokens[a] & tokens[b]) >= 3
        ]
        best = sorted(found)[:n] + [(np.float32(0), -1)] * n
        ids.append([b for _, b in best[:n]])
        overlaps.append([float(-overlap) for overlap, _ in best[:n]])
    return ids, overlaps


@given(SAMPLES, st.integers(1, 9), st.integers(1, 500), st.integers(1, 1000))
def test_partners_are_those_of_brute_force(sample: list[set[int]], n: int, cells: int, gap: int):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cooccurrence, "MAX_CELLS", cells)
        ids, overlaps = cooccurrence.partners(*columns(sample, gap), 12, n)
    assert (ids.dtype.name, overlaps.dtype.name) == ("int64", "float32")
    assert (ids.tolist(), overlaps.tolist()) == brute_force(sample, 12, n)


def test_twins_overlap_wholly_and_strangers_not_at_all():
    sample = [{0, 1}, {0, 1, 2}, {0, 1}, {2, 3}, {2}, {3}]
    ids, overlaps = cooccurrence.partners(*columns(sample), 5, 2)
    assert ids.tolist() == [[1, -1], [0, -1], [-1, -1], [-1, -1], [-1, -1]]
    assert overlaps.tolist() == [[1, 0], [1, 0], [0, 0], [0, 0], [0, 0]]


def test_of_equal_overlaps_the_lower_id_comes_first():
    ids, _ = cooccurrence.partners(*columns([{0, 1, 2, 3}] * 4), 4, 2)
    assert ids.tolist() == [[1, 2], [0, 2], [0, 1], [0, 1]]
