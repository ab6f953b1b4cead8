"""A map in bytes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from features.store.layout import pack_clusters, pack_points, quantised, unpack_clusters, unpack_points


@given(hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.just(2)), elements=st.floats(-1, 1, width=32)))
def test_points_come_back(xy: np.ndarray) -> None:
    packed = pack_points(xy)
    assert len(packed) == 8 * len(xy)
    assert unpack_points(packed).tobytes() == xy.astype("<f4").tobytes()


def test_clusters_come_back() -> None:
    assert unpack_clusters(pack_clusters(np.array([3, -1, 32_000]))).tolist() == [3, -1, 32_000]


@given(st.floats(-1, 1))
def test_a_step_is_off_by_half_a_step_at_most(value: float) -> None:
    step = int(quantised(np.array([value]), -1, 1)[0])
    assert abs(step / 65_535 * 2 - 1 - value) <= 1 / 65_535 + 1e-12


def test_what_lies_beyond_is_at_the_end() -> None:
    assert quantised(np.array([-np.inf, -2, 2, np.inf]), -1, 1).tolist() == [0, 0, 65_535, 65_535]
    assert quantised(np.array([1.0]), 1, 1).tolist() == [0]
