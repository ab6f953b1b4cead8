"""Histograms as SVG shapes."""

import numpy as np
import pytest

from features.plots.bars import HEIGHT, WIDTH, activation_chart, sparkline
from features.store.histogram import pack_histogram, unpack_histogram


def histogram(first: int, counts: list[int]):
    return unpack_histogram(pack_histogram(first, np.array(counts)))


def test_the_fullest_bin_is_as_high_as_the_box() -> None:
    chart = activation_chart(histogram(0, [1, 4, 2]))
    assert chart is not None
    assert [bar.height for bar in chart.bars] == [HEIGHT / 4, HEIGHT, HEIGHT / 2]
    assert [bar.y + bar.height for bar in chart.bars] == [HEIGHT] * 3
    assert chart.bars[0].tip == "1 tokens from 1 to 1.19"


def test_ticks_stand_at_powers_of_two() -> None:
    chart = activation_chart(histogram(-4, [1] * 12))
    assert chart is not None
    assert [(tick.at, tick.text) for tick in chart.x_ticks] == [
        (0, "0.5"),
        (WIDTH / 3, "1"),
        (2 * WIDTH / 3, "2"),
        (WIDTH, "4"),
    ]


@pytest.mark.parametrize(("first", "n"), [(1, 2), (-80, 160), (0, 1), (-100, 8)])
def test_there_are_two_to_eight_ticks(first: int, n: int) -> None:
    chart = activation_chart(histogram(first, [1] * n))
    assert chart is not None
    assert 2 <= len(chart.x_ticks) <= 8


def test_a_dead_feature_has_no_picture() -> None:
    assert activation_chart(histogram(0, [0])) is None
    assert sparkline(histogram(0, [0])).path == ""


def test_a_sparkline_leaves_empty_bins_empty() -> None:
    assert sparkline(histogram(3, [2, 0, 1])).path == "M0 20v-20h1.6V20zM4 20v-10h1.6V20z"
