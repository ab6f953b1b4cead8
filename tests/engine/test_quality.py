"""What speaks against a run: every reason is given, and each can be the only one."""

import pytest

from jobs.engine.cross_entropy import CrossEntropy
from jobs.engine.quality import Quality, why_not_valid


def quality(**figures: float) -> Quality:
    fine = {"n_tokens": 1000, "explained_variance": 0.8, "fvu": 0.2, "cosine": 0.9, "shrinkage": 0.95, "l0": 32.0}
    return Quality(**(fine | figures))  # type: ignore[arg-type]


def cross_entropy(original: float, reconstructed: float, ablated: float) -> CrossEntropy:
    return CrossEntropy(4, 500, original, reconstructed, ablated, 0.5, 8.0, 0.01)


def test_nothing_speaks_against_good_figures() -> None:
    good = cross_entropy(3.4, 3.6, 11.0)
    assert why_not_valid(quality(), 32, reported_l0=30.5, cross_entropy=good) == []
    assert why_not_valid(quality(), None) == []


@pytest.mark.parametrize(
    ("figures", "k", "others", "words"),
    [
        ({"explained_variance": 0.499}, 32, {}, "Explained variance 0.499 is below 0.5"),
        ({"explained_variance": float("nan")}, 32, {}, "Explained variance nan"),
        ({"l0": 10.6}, 32, {}, "L0 10.6 is far from the SAE's own k = 32"),
        ({"l0": 96.1}, 32, {}, "L0 96.1 is far from the SAE's own k = 32"),
        ({"l0": 96.1}, None, {"reported_l0": 32.0}, "far from the 32.0 that the SAE's files report"),
        ({"l0": 0.0}, 32, {"reported_l0": 32.0}, "No feature is alive"),
        (
            {},
            32,
            {"cross_entropy": cross_entropy(3.0, 9.25, 8.0)},
            "8.000 with zeros in place of the activations, 9.250",
        ),
        ({"n_tokens": 0, "l0": 0.0, "explained_variance": 0.0}, 32, {}, "No token was left"),
    ],
)
def test_each_reason_alone(figures: dict[str, float], k: int | None, others: dict[str, float], words: str) -> None:
    (reason,) = why_not_valid(quality(**figures), k, **others)  # type: ignore[arg-type]
    assert words in reason
    assert reason[0].isupper()
    assert reason.endswith(".")
    assert "\n" not in reason


@pytest.mark.parametrize("l0", [10.7, 32.0, 95.9])
def test_a_factor_of_three_is_near_enough(l0: float) -> None:
    assert why_not_valid(quality(l0=l0), 32, reported_l0=32.0) == []


def test_all_reasons_are_given() -> None:
    bad = cross_entropy(3.0, 9.0, 8.0)
    reasons = why_not_valid(quality(explained_variance=-2.0, l0=300.0), 32, reported_l0=20.0, cross_entropy=bad)
    assert len(reasons) == 4


def test_where_zeros_cost_nothing_no_reconstruction_is_worse() -> None:
    harmless = cross_entropy(3.0, 3.1, 2.9)
    assert harmless.recovered is None
    assert why_not_valid(quality(), 32, cross_entropy=harmless) == []
