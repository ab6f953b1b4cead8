"""Columns of a run: what is packed comes back to the last bit, with the orders that sorting would give."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.store.columns import ORDERED, RunColumns, pack_columns, unpack_columns

value = st.one_of(st.sampled_from([0.0, 0.5, 0.1 + 0.2, 2.0]), st.floats(0, 1e300))
row = st.tuples(st.integers(0, 2**40), value, value, value, st.booleans(), st.booleans())


def packed(rows: list[tuple[int, float, float, float, bool, bool]]) -> bytes:
    kinds = (np.int64, np.float64, np.float64, np.float64, bool, bool)
    return pack_columns(*(np.array([r[i] for r in rows], kind) for i, kind in enumerate(kinds)))


def names(columns: RunColumns) -> list[list[float]]:
    arrays = ("n_firing", *ORDERED, "ruled", "present")
    return [getattr(columns, name).tolist() for name in arrays]


@given(st.lists(row, max_size=20))
def test_numbers_and_orders(rows: list[tuple[int, float, float, float, bool, bool]]) -> None:
    columns = unpack_columns(packed(rows))
    assert len(columns) == len(rows)
    assert names(columns) == [[r[i] for r in rows] for i in range(6)]
    for i, name in enumerate(ORDERED, 1):
        for descending in (False, True):
            wanted = sorted(range(len(rows)), key=lambda at: ((-1 if descending else 1) * rows[at][i], at))
            assert columns.order(name, descending=descending).tolist() == wanted


def test_float32_is_enough_where_it_is_exact() -> None:
    counts = np.arange(1000)
    exact = pack_columns(counts, counts / 1024, counts / 8, counts / 8)
    third = pack_columns(counts, counts / 3, counts / 8, counts / 8)
    assert len(third) - len(exact) == 4000
    assert unpack_columns(third).density.tolist() == (counts / 3).tolist()


def test_every_feature_is_present_and_none_ruled_unless_said() -> None:
    zeros = np.zeros(3)
    columns = unpack_columns(pack_columns(np.zeros(3, np.int64), zeros, zeros, zeros))
    assert (columns.present.tolist(), columns.ruled.tolist()) == ([True] * 3, [False] * 3)
    assert columns.nbytes >= 3 * (4 * 8 + 2 + 6 * 4)


def test_a_newer_version_is_refused() -> None:
    with pytest.raises(ValueError, match="Columns of version 2 are newer than this code"):
        unpack_columns(b"\x02")
