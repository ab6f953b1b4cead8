"""Figures from arrays."""

import base64
import json
from typing import Any

import numpy as np
import pytest

from features.plots.density import density_histogram, density_scatter, typed
from features.plots.thin import MOST


def values(packed: dict[str, str]) -> list[float]:
    return [float(v) for v in np.frombuffer(base64.b64decode(packed["bdata"]), packed["dtype"])]


def test_typed_arrays_hold_the_numbers() -> None:
    assert typed(np.array([1, 2], "<i4")) == {"dtype": "i4", "bdata": "AQAAAAIAAAA="}


def test_dead_features_stand_in_a_bar_of_their_own() -> None:
    dead, alive = density_histogram(np.array([0, 0, 0.011, 0.012, 0.5]))["data"]
    assert values(dead["y"]) == [2]
    assert sum(values(alive["y"])) == 3
    assert values(dead["x"])[0] < values(alive["x"])[0] - 0.2


def test_bins_are_fifths_of_a_decade() -> None:
    _, alive = density_histogram(np.array([0.0101, 0.0157, 0.016, 0.11]))["data"]
    assert values(alive["y"]) == [2, 1, 0, 0, 0, 1]
    assert values(alive["x"])[0] == pytest.approx(-1.9)
    assert alive["customdata"][0] == "1% to 1.6%"


def test_ticks_are_whole_decades() -> None:
    axis = density_histogram(np.array([0.0, 0.0005, 0.2]))["layout"]["xaxis"]
    assert axis["ticktext"] == ["dead", "0.1%", "1%", "10%"]


@pytest.mark.parametrize("density", [np.zeros(4), np.zeros(0), np.ones(3)])
def test_extremes_make_a_figure(density: np.ndarray) -> None:
    figure = density_histogram(density)
    assert sum(values(figure["data"][0]["y"])) + sum(values(figure["data"][1]["y"])) == len(density)
    json.dumps(figure, allow_nan=False)


def scatter(n: int) -> Any:
    density = np.linspace(0, 0.5, n + 1)
    return density_scatter(np.arange(n + 1), density, density * 10)["data"][0]


def test_a_point_knows_its_feature_and_the_dead_have_none() -> None:
    trace = scatter(4)
    assert values(trace["customdata"]) == [1, 2, 3, 4]
    assert values(trace["x"]) == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert values(trace["y"]) == pytest.approx([1.25, 2.5, 3.75, 5.0])


def test_of_many_points_no_more_are_drawn_than_a_browser_draws_at_once() -> None:
    assert len(values(scatter(MOST)["x"])) == MOST
    assert MOST / 2 < len(values(scatter(5 * MOST)["x"])) <= MOST


def test_large_figures_stay_small() -> None:
    assert len(json.dumps(scatter(65_536))) < 1_100_000
