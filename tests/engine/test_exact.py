"""Sums that do not depend on their order, against fractions."""

import random
from fractions import Fraction

import torch
from hypothesis import example, given
from hypothesis import strategies as st

from jobs.engine import exact


@example([-8.311550059314499e-11], random.Random(0))  # one part's floor and the rest do not fit a float64 each
@given(st.lists(st.floats(-(2.0**20), 2.0**20, width=32), min_size=1, max_size=50), st.randoms(use_true_random=False))
def test_sums_are_right_and_the_same_in_any_order(addends: list[float], rng):
    total = exact.value(exact.parts(torch.tensor(addends, dtype=torch.float64)).sum(0))
    truth = sum(map(Fraction, addends), Fraction(0))
    assert abs(Fraction(float(total)) - truth) <= len(addends) * Fraction(1, 2**57) + abs(truth) * Fraction(1, 2**52)
    rng.shuffle(addends)
    again = torch.zeros(exact.PARTS, dtype=torch.int64)
    for addend in addends:
        again += exact.parts(torch.tensor(addend))
    assert exact.value(again) == total


@given(st.floats(2.0**-33, 2.0**40, width=32), st.sampled_from([1, -1]))
def test_a_float32_loses_nothing(addend: float, sign: int):
    addend *= sign
    assert float(exact.value(exact.parts(torch.tensor(addend)))) == addend


def test_equal_sums_give_equal_floats_whatever_was_carried():
    plain = torch.tensor([3, 5, 7])
    carried = torch.tensor([2, 5 + (1 << 28) - 1, 7 + (1 << 28)])
    assert exact.value(plain) == exact.value(carried)
