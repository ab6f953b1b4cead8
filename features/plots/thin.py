"""Fewer points where a picture could not show more: what lies on other points goes, what stands alone stays."""

import numpy as np
from numpy.typing import NDArray

MOST = 10_000
"""Points that a scatter draws. An SVG of more is slow, and Plotly's WebGL needs eval, which the site forbids."""
CELLS = 90
"""The picture is looked at as so many cells each way: less than MOST together, so that each keeps a point."""


def thinned(x: NDArray[np.floating], y: NDArray[np.floating], most: int = MOST) -> NDArray[np.int64]:
    """Which of the points (x, y), both above 0 and seen on log scales, are drawn: at most ``most``, ascending.

    All of them if they are not too many. Else every cell of the picture keeps as many as every other, or all that it
    has: those of the highest y, so that the picture's outline and its lone points stay. The same points give the same.
    """
    n = len(x)
    if n <= most:
        return np.arange(n)
    side = min(CELLS, int(most**0.5))
    cell = _cells(np.log(x), side) * side + _cells(np.log(y), side)
    order = np.lexsort((-y, cell))
    sizes = np.bincount(cell, minlength=side * side)
    starts = np.cumsum(sizes) - sizes
    place = np.arange(n) - np.repeat(starts, sizes)  # of each point within its cell
    found: NDArray[np.int64] = np.sort(order[place < _each(sizes, most)])
    return found


def _cells(values: NDArray[np.floating], n: int) -> NDArray[np.int64]:
    low, high = float(values.min()), float(values.max())
    return np.minimum(n - 1, (n * (values - low) / max(high - low, 1e-12)).astype(np.int64))


def _each(sizes: NDArray[np.integer], most: int) -> int:
    """The most points that each cell may keep, so that all together keep at most ``most``."""
    low, high = 1, int(sizes.max())
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if int(np.minimum(sizes, middle).sum()) <= most else (low, middle - 1)
    return low
