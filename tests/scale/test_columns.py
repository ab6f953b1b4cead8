"""Columns packed by the thousand are what the packers of features.store make one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.store.histogram import unpack_histogram
from features.store.integers import Reader
from features.store.ranked import unpack_ranked
from tests.scale.columns import cut, pack_histogram_rows, pack_ranked_rows, pack_rows

numbers = st.integers(0, 2**32 - 1)


@given(st.integers(1, 5).flatmap(lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=1, max_size=8)))
def test_rows_are_columns_that_a_reader_reads(rows: list[list[int]]):
    values = np.array(rows, np.int64)
    for blob, row in zip(pack_rows(values), rows, strict=True):
        reader = Reader(blob)
        assert reader.column(len(row)).tolist() == row
        assert reader.at == len(blob)


def test_rows_of_nothing_are_no_bytes():
    assert pack_rows(np.empty((3, 0), np.int64)) == [b""] * 3
    assert cut(np.empty((0, 4), np.uint8)) == []


def test_ranked_rows_are_read_as_lists():
    ids, values = np.array([[1, 2, 300, 4], [0, 0, 7, 9]]), np.array([[4, 3, 2, 1], [0.5, 0.25, 9, -8]])
    for blob, i, v in zip(pack_ranked_rows(ids, values, 2), ids.tolist(), values.tolist(), strict=True):
        first, second = unpack_ranked(blob, 2)
        assert [*first.ids, *second.ids] == i
        assert [*first.values, *second.values] == v


def test_histograms_begin_at_their_first_count():
    blobs = pack_histogram_rows(np.array([12, 12, 5]), np.array([[0, 0, 3, 0, 1], [2, 1, 1, 1, 1], [0] * 5]))
    first, second, none = (unpack_histogram(blob) for blob in blobs)
    assert first.counts.tolist() == [3, 0, 1]
    assert first.edges.tolist() == pytest.approx([2 ** (i / 4) for i in range(10, 14)])
    assert second.counts.tolist() == [2, 1, 1, 1, 1]
    assert none.counts.tolist() == []
