"""What is packed comes back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.store.contexts import (
    pack_features,
    pack_ids,
    pack_tokens,
    token_at,
    unpack_features,
    unpack_ids,
    unpack_many_features,
    unpack_many_tokens,
    unpack_tokens,
)
from features.store.examples import (
    BANDS,
    NEAR_MISS,
    SILENT,
    Example,
    Examples,
    pack_examples,
    unpack_examples,
    unpack_top,
)
from features.store.histogram import edges, pack_histogram, unpack_histogram
from features.store.integers import Reader, number_at, pack_column
from features.store.ranked import Ranked, pack_ranked, unpack_ranked

ids = st.lists(st.integers(0, 2**32 - 1))
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
contexts = st.integers(0, 2**32 - 1)
firings = st.dictionaries(st.integers(0, 2**16 - 1), st.floats(2**-20, 2**20, width=32), min_size=1, max_size=6)
firing = st.tuples(contexts, st.integers(0, NEAR_MISS - 1), firings)
near_miss = st.tuples(contexts, st.just(NEAR_MISS), st.dictionaries(st.integers(0, 99), floats, min_size=1, max_size=1))
nowhere: dict[int, float] = {}
silent = st.tuples(contexts, st.just(SILENT), st.just(nowhere))


@given(st.lists(st.one_of(st.integers(0, 3), st.integers(0, 300), st.integers(0, 2**62)), max_size=40))
def test_columns(numbers: list[int]) -> None:
    reader = Reader(pack_column(np.array(numbers, np.int64)) + b"next")
    assert reader.column(len(numbers)).tolist() == numbers
    assert reader.blob[reader.at :] == b"next"


@given(
    st.lists(st.one_of(st.integers(0, 3), st.integers(0, 300), st.integers(0, 2**62)), min_size=1, max_size=40),
    st.data(),
)
def test_one_number_of_a_column(numbers: list[int], data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(numbers) - 1))
    blob = b"before" + pack_column(np.array(numbers, np.int64)) + b"behind it"
    assert number_at(blob, 6, len(numbers), position) == numbers[position]


def test_a_column_of_mostly_small_numbers_is_shorter_than_its_largest_asks_for() -> None:
    assert len(pack_column(np.array([1] * 79 + [200]))) < 40
    assert len(pack_column(np.full(80, 200))) == 81


@given(ids)
def test_ids(numbers: list[int]) -> None:
    assert unpack_ids(pack_ids(numbers)).tolist() == numbers
    assert unpack_tokens(pack_tokens(numbers)).tolist() == numbers
    parts = [numbers, [], numbers[:3], numbers[::-1], [2**20, 5], numbers]
    assert [ids.tolist() for ids in unpack_many_tokens([pack_tokens(part) for part in parts])] == parts
    cited = [sorted(set(part)) for part in parts]
    assert [found.tolist() for found in unpack_many_features([pack_features(part) for part in parts])] == cited
    assert [token_at(pack_tokens(numbers), i) for i in range(len(numbers))] == numbers
    assert unpack_features(pack_features(numbers)).tolist() == sorted(set(numbers))


def said(example: Example) -> tuple[int, int, list[int], list[float]]:
    return example.context, example.band, example.positions.tolist(), example.values.tolist()


@given(st.lists(st.one_of(firing, near_miss, silent), max_size=8))
def test_examples(rows: list[tuple[int, int, dict[int, float]]]) -> None:
    rows = sorted(rows, key=lambda row: row[1])
    tokens = [sorted(fired.items()) for _, _, fired in rows]
    examples = Examples(
        contexts=np.array([c for c, _, _ in rows], np.int64),
        bands=np.array([b for _, b, _ in rows], np.int64),
        ends=np.cumsum([len(t) for t in tokens], dtype=np.int64),
        positions=np.array([p for t in tokens for p, _ in t], np.int64),
        values=np.array([v for t in tokens for _, v in t], np.float32),
    )
    found = list(unpack_examples(pack_examples(examples)))
    assert [(e.context, e.band, dict(zip(e.positions.tolist(), e.values.tolist(), strict=True))) for e in found] == rows
    tops = [e for e in found if e.band == 0]
    for n in (1, 2, 8):
        assert [said(e) for e in unpack_top(pack_examples(examples), n)] == [said(e) for e in tops[:n]]
    assert [e.peak for e in found] == [max(t, key=lambda pv: pv[1], default=(-1, 0))[0] for t in tokens]


def test_activations_come_back_bit_for_bit() -> None:
    values = np.array([1, 1 + 2**-23, 0.1, 2**-149, 3.4e38, 7], np.float32)
    column = np.arange(len(values))
    examples = Examples(column, np.zeros(len(values), np.int64), column + 1, column, values)
    assert unpack_examples(pack_examples(examples)).values.view(np.uint32).tolist() == values.view(np.uint32).tolist()


def test_an_example_spreads_over_its_context() -> None:
    context, band, ends, positions = (np.array(column) for column in ([7, 8, 9], [0, 5, 6], [2, 3, 3], [1, 3, 2]))
    packed = pack_examples(Examples(context, band, ends, positions, np.array([0.5, 2.0, 0.1], np.float32)))
    example, near, silent = unpack_examples(packed)
    assert example.dense(5).tolist() == [0, 0.5, 0, 2, 0]
    assert (example.peak, example.max_value, BANDS[example.band], example.fires) == (3, 2.0, "top", True)
    assert near.dense(5).tolist() == silent.dense(5).tolist() == [0] * 5  # neither fires
    assert (near.peak, near.fires, silent.peak, silent.fires) == (2, False, -1, False)


def test_what_a_newer_version_packed_is_refused() -> None:
    with pytest.raises(ValueError, match="Examples of version 2 are newer than this code"):
        unpack_examples(b"\x02")


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


@given(st.lists(st.lists(st.tuples(st.integers(0, 2**32 - 1), floats), max_size=12), min_size=1, max_size=3))
def test_ranked_lists(lists: list[list[tuple[int, float]]]) -> None:
    packed = pack_ranked(
        *(Ranked(np.array([i for i, _ in e], np.int64), np.array([v for _, v in e], np.float32)) for e in lists)
    )
    assert [list(r.pairs()) for r in unpack_ranked(packed, len(lists))] == lists


def test_lists_that_were_not_computed_are_empty() -> None:
    only = Ranked(np.array([3]), np.array([0.5], np.float32))
    assert [list(r.pairs()) for r in unpack_ranked(pack_ranked(only), 2)] == [[(3, 0.5)], []]
    assert [list(r.pairs()) for r in unpack_ranked(b"", 1)] == [[]]
