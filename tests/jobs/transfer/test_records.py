"""One record: what is kept of it, and what refuses it."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.store.histogram import Histogram, edges, pack_edges, pack_histogram, unpack_histogram
from jobs.transfer import records
from jobs.transfer.faults import Refused
from tests.jobs.transfer import made

INTERVAL = ("binMin", "binContains")
junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


def test_a_feature_is_kept_as_it_stands() -> None:
    found = records.feature(made.feature(7, vector=[3.0, 4.0], topkCosSimIndices=[2], topkCosSimValues=[0.5]))
    assert (found.index, found.density, found.maximum, found.norm) == (7, 0.01, 8.0, 5.0)
    assert found.histogram.edges.tolist() == [0, 2, 4, 6, 8]
    assert found.histogram.counts.tolist() == [400, 300, 200, 100]
    assert found.up[0] == [" river", " bank"]
    assert (found.near[0].tolist(), found.near[1].tolist()) == ([2], [0.5])


@pytest.mark.parametrize("index", [7, "7", "007"])
def test_an_index_may_be_text(index: Any) -> None:
    assert records.index_of({"index": index}) == 7


@pytest.mark.parametrize("index", [None, True, 1.0, "x", "-1", -1, 1 << 24, "9" * 12, "\u0667", [7]])
def test_what_is_no_index_is_refused(index: Any) -> None:
    with pytest.raises(Refused, match="index"):
        records.index_of({"index": index})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"frac_nonzero": None}, "frac_nonzero is no finite number"),
        ({"frac_nonzero": 1.5}, "not from 0 to 1"),
        ({"frac_nonzero": math.nan}, "no finite number"),
        ({"maxActApprox": math.inf}, "no finite number"),
        ({"pos_str": ["a"]}, "1 pos_str and 2 pos_values"),
        ({"pos_str": [1, 2]}, "no list of texts"),
        ({"pos_values": ["a", "b"]}, "no list of numbers"),
        ({"pos_values": [1.0, [2.0]]}, "no list of numbers"),
        ({"freq_hist_data_bar_heights": [1]}, "4 bars and 1 heights"),
        ({"freq_hist_data_bar_heights": [1, 2, 3, 0.5]}, "no counts"),
        ({"freq_hist_data_bar_values": [1, 3, 2, 7]}, "do not ascend"),
        ({"topkCosSimIndices": [-1], "topkCosSimValues": [1]}, "not from 0 to"),
        ({"vector": "x"}, "no list"),
    ],
)
def test_a_feature_with_a_fault_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        records.feature(made.feature(0, **change))


def test_the_maximum_is_worked_out_and_not_read() -> None:
    found = records.activation(made.activation(0, ["a", "b", "c"], [-1, 2.5, 0.25], maxValue=99), 0, INTERVAL)
    assert (found.positions.tolist(), found.values.tolist(), found.low) == ([1, 2], [2.5, 0.25], None)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"values": [1.0]}, "2 tokens and 1 values"),
        ({"values": [1.0, math.nan]}, "no finite number"),
        ({"values": [1.0, 1e39]}, "no finite number"),
        ({"values": [0.0, -2.0]}, "none of its values is above 0"),
        ({"values": [True, False]}, "no list of numbers"),
        ({"tokens": ["a", 1]}, "no list of texts"),
        ({"tokens": []}, "no list of tokens"),
        ({"tokens": ["a", "b" * 3000]}, "longer than"),
        ({"binMin": "x"}, "binMin is no finite number"),
    ],
)
def test_an_activation_with_a_fault_is_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(Refused, match=why):
        records.activation(made.activation(0, ["a", "b"], [1.0, 2.0]) | change, 0, INTERVAL)


@pytest.mark.parametrize("embedding", ["[0.1, 0.2]", [0.1, 0.2], None])
def test_whatever_the_embedding_is_it_is_not_read(embedding: Any) -> None:
    found = records.explanation(made.explanation(3, "a\0 b\n c", embedding=embedding))
    assert (found.index, found.text) == (3, "a\ufffd b c")
    assert (found.method, found.explainer, found.author) == ("oai_token-act-pair", "gpt-4o-mini", "ann")


def test_a_long_explanation_is_kept_whole() -> None:
    found = records.explanation(made.explanation(3, "word " * 200))
    assert (len(found.text), found.explanation) == (500, " ".join(["word"] * 200))


def test_another_source_is_refused() -> None:
    source = records.source_of(made.feature(0))
    assert (source.layer, source.set_name) == (6, "res-jb")
    records.belongs(made.feature(1), source)
    with pytest.raises(Refused, match="gemma/6-res-jb, the others of gpt2-small/6-res-jb"):
        records.belongs(made.feature(1, modelId="gemma"), source)


@given(st.dictionaries(st.sampled_from(sorted(made.feature(0))), junk))
def test_no_feature_breaks_it(change: dict[str, Any]) -> None:
    try:
        found = records.feature(made.feature(0) | change)
    except Refused as error:
        assert str(error)
    else:
        assert 0 <= found.density <= 1
        assert np.isfinite(found.histogram.edges).all()


@given(st.dictionaries(st.sampled_from(sorted(made.activation(0, ["a"], [1]))), junk))
def test_no_activation_breaks_it(change: dict[str, Any]) -> None:
    try:
        found = records.activation(made.activation(0, ["a"], [1.0]) | change, 0, INTERVAL)
    except Refused as error:
        assert str(error)
    else:
        assert len(found.positions) == len(found.values) > 0
        assert found.values.min() > 0


counts = st.lists(st.integers(0, 1000), min_size=1, max_size=20)


@given(st.integers(-40, 40), counts)
def test_bins_of_our_own_are_packed_as_such(first: int, numbers: list[int]) -> None:
    packed = pack_histogram(first, np.array(numbers))
    found = unpack_histogram(packed)
    assert pack_edges(found) == packed
    assert unpack_histogram(
        pack_edges(Histogram(edges(first, len(numbers)), np.array(numbers, np.uint64)))
    ).counts.tolist() == (found.counts.tolist())


@given(st.lists(st.floats(0, 1e6, width=32), min_size=2, max_size=60, unique=True), st.data())
def test_bins_from_elsewhere_keep_their_edges(limits: list[float], data: st.DataObject) -> None:
    sizes = data.draw(st.lists(st.integers(0, 10**9), min_size=len(limits) - 1, max_size=len(limits) - 1))
    given_bins = Histogram(np.array(sorted(limits), np.float32), np.array(sizes, np.uint64))
    found = unpack_histogram(pack_edges(given_bins))
    if sum(sizes):
        inside = np.isin(given_bins.edges, found.edges)
        assert inside.sum() == len(found.edges)
        assert found.counts.sum() == sum(sizes)
    else:
        assert not len(found.counts)
