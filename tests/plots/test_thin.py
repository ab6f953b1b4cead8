"""Points that are left out of a picture, and those that are not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.plots.thin import MOST, thinned


def cloud(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(-6, 0.5, n)), np.exp(rng.normal(1, 0.3, n))


def test_few_points_are_all_drawn() -> None:
    assert thinned(*cloud(1000)).tolist() == list(range(1000))
    assert len(thinned(*cloud(MOST))) == MOST


def test_points_alone_and_extremes_stay() -> None:
    x, y = cloud(200_000)
    x[[5, 70_000]], y[[5, 70_000]] = [1.0, 1e-7], [1e-3, 50.0]
    drawn = thinned(x, y)
    assert MOST / 2 < len(drawn) <= MOST
    assert np.all(np.diff(drawn) > 0)
    assert {5, 70_000, int(x.argmax()), int(x.argmin()), int(y.argmax())} <= set(drawn.tolist())
    assert drawn.tolist() == thinned(x, y).tolist()


@given(st.integers(5, 300), st.integers(0, 5), st.integers(4, 40))
def test_never_more_than_asked_for(n: int, seed: int, most: int) -> None:
    x, y = cloud(n, seed)
    assert len(thinned(x, y, most)) == n if n <= most else 0 < len(thinned(x, y, most)) <= most


def test_points_on_one_spot() -> None:
    same = np.full(100, 0.5)
    assert len(thinned(same, same, 10)) == 10
