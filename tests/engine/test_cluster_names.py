"""Names of clusters: what their features say more often than others."""

import math

import numpy as np
import pytest

from jobs.engine.cluster_names import MAX_TERM, Terms, label_terms, log_odds, name_clusters


@pytest.mark.parametrize(
    ("label", "by_rule", "terms"),
    [
        ("“ river” / “Lakes”", True, {"river", "lakes"}),
        ("forms of “acid” / “acids”", True, {"acid", "acids"}),
        ("“…ively”", True, {"ively"}),
        ("capitalised words", True, {"capitalised words"}),
        ("text about acid, transfer, proton", True, {"acid", "transfer", "proton"}),
        ("Mentions of the rivers of Europe", False, {"mentions", "rivers", "europe"}),
        ("about “sea ice”", False, {"sea ice"}),
        ("", False, set()),
        ("“\u202e”", False, set()),
        ("“" + "x" * 90 + "”", False, {"x" * MAX_TERM}),
    ],
)
def test_the_terms_of_a_label(label: str, by_rule: bool, terms: set[str]) -> None:
    assert label_terms(label, by_rule=by_rule) == terms


def test_log_odds_are_those_of_the_formula() -> None:
    n, m, y, x = 20, 180, 8, 4
    p = 10 * 12 / 200
    odds = math.log((y + p) / (n - y + 10 - p)) - math.log((x + p) / (m - x + 10 - p))
    want = odds / math.sqrt(1 / (y + p) + 1 / (x + p))
    assert log_odds(np.array([y]), n, np.array([x]), m)[0] == pytest.approx(want)


def some() -> tuple[np.ndarray, Terms]:
    """Two clusters of ten among sixty: one of waters, one whose labels share nothing but whose tokens do."""
    cluster, terms = np.full(60, -1), Terms()
    cluster[:10], cluster[10:20] = 0, 1
    for i in range(60):
        label, tokens = f"“only{i}”", ["the"]
        if i < 10:
            label = ("“ river”", "“ lake”")[i % 2]
        if 10 <= i < 16:
            tokens = [" whale", "??"]
        terms.add(i, label, tokens, by_rule=True)
    return cluster, terms


def test_a_cluster_goes_by_what_its_features_share() -> None:
    cluster, terms = some()
    waters, whales = name_clusters(cluster, terms, [[0], [10]])
    assert waters.text == "lake, river"
    assert waters.why == "“lake”, “river”: 10 of 10 features, by labels"
    assert whales.text == "→ whale"
    assert whales.why == "→ “whale”: 6 of 10 features, by the tokens that they make likelier"


def test_a_cluster_that_shares_nothing_goes_by_its_middle() -> None:
    cluster = np.repeat([0, 1, -1], [10, 10, 40])
    terms = Terms()
    for i in range(60):
        terms.add(i, f"“word{i}” / “common”", [], by_rule=True)
    first, second = name_clusters(cluster, terms, [[4, 2, 9, 1], []])
    assert first.text == "around word4, word2, word9"
    assert first.why == "No word is commoner here than elsewhere; in the middle: “word4” (4), “word2” (2), “word9” (9)"
    assert second.text == "cluster 1"


def test_names_are_told_apart_and_do_not_hang_on_the_order_of_a_hash() -> None:
    cluster, terms = np.repeat([0, 1, -1], [10, 10, 60]), Terms()
    for i in range(80):
        terms.add(i, "“sea”, “shore”" if i < 20 else "", [], by_rule=True)
    names = [name.text for name in name_clusters(cluster, terms, [[0], [10]])]
    assert names == ["sea, shore", "sea, shore (2)"]


def test_no_cluster_no_name() -> None:
    assert name_clusters(np.full(9, -1), Terms(), []) == []
    assert [name.text for name in name_clusters(np.zeros(9, int), Terms(), [[0]])] == ["cluster 0"]
