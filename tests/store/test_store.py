"""What is packed comes back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.store.contexts import pack_ids, unpack_ids
from features.store.examples import Examples, pack_examples, unpack_examples
from features.store.histogram import edges, pack_histogram, unpack_histogram
from features.store.ranked import Ranked, pack_ranked, unpack_ranked

floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
firings = st.dictionaries(st.integers(0, 2**16 - 1), st.floats(2**-20, 2**20, width=32), min_size=1, max_size=6)
rows = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 4), firings)


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_ids(ids: list[int]) -> None:
    assert unpack_ids(pack_ids(ids)).tolist() == ids


@given(st.lists(rows, max_size=8))
def test_examples(given_rows: list[tuple[int, int, dict[int, float]]]) -> None:
    peaks = [max(f, key=lambda p: f[p]) for _, _, f in given_rows]
    examples = Examples(
        contexts=np.array([c for c, _, _ in given_rows], np.int64),
        bands=np.array([b for _, b, _ in given_rows], np.int64),
        peaks=np.array(peaks, np.int64),
        ends=np.cumsum([len(f) for _, _, f in given_rows], dtype=np.int64),
        positions=np.array([p for _, _, f in given_rows for p in f], np.int64),
        values=np.array([v for _, _, f in given_rows for v in f.values()], np.float32),
    )
    found = list(unpack_examples(pack_examples(examples)))
    assert [
        (e.context, e.band, dict(zip(e.positions.tolist(), e.values.tolist(), strict=True))) for e in found
    ] == given_rows
    assert [e.peak for e in found] == peaks


def test_an_example_spreads_over_its_context() -> None:
    context, band, peak, end, positions = (np.array(column) for column in ([7], [0], [3], [2], [1, 3]))
    packed = pack_examples(Examples(context, band, peak, end, positions, np.array([0.5, 2.0], np.float32)))
    (example,) = unpack_examples(packed)
    assert example.dense(5).tolist() == [0, 0.5, 0, 2, 0]
    assert example.max_value == 2.0


@given(st.integers(-500, 500), st.lists(st.integers(0, 2**60), max_size=20))
def test_histograms_lose_only_the_empty_ends(first: int, counts: list[int]) -> None:
    found = unpack_histogram(pack_histogram(first, np.array(counts, np.int64)))
    filled = [(edge, count) for edge, count in zip(edges(first, len(counts)).tolist(), counts, strict=False) if count]
    again = zip(found.edges.tolist(), found.counts.tolist(), strict=False)
    assert [(edge, count) for edge, count in again if count] == filled
    assert len(found.edges) == (len(found.counts) + 1 if filled else 0)


@pytest.mark.parametrize(("q", "edge"), [(0.0, 1.0), (0.49, 1.0), (0.5, 2**0.5), (1.0, 2**0.5)])
def test_a_quantile_is_the_lower_edge_of_its_bin(q: float, edge: float) -> None:
    assert unpack_histogram(pack_histogram(0, np.array([5, 0, 5]))).quantile(q) == pytest.approx(edge)


def test_a_feature_that_never_fired_has_quantile_0() -> None:
    assert unpack_histogram(b"").quantile(0.5) == 0.0


@given(st.integers(0, 12), st.integers(1, 3), st.data())
def test_ranked_lists(size: int, n_lists: int, data: st.DataObject) -> None:
    lists = [
        Ranked(
            np.array(data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=size, max_size=size)), np.uint32),
            np.array(data.draw(st.lists(floats, min_size=size, max_size=size)), np.float32),
        )
        for _ in range(n_lists)
    ]
    found = unpack_ranked(pack_ranked(*lists), n_lists)
    assert [r.ids.tolist() for r in found] == [r.ids.tolist() for r in lists]
    assert [r.values.tolist() for r in found] == [r.values.tolist() for r in lists]
