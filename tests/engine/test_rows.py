"""The table of kept rows: what is kept depends on the set of rows alone."""

from dataclasses import fields

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.engine.rows import Rows, octave, reduce

TOP, RESERVOIR = 3, 2

# Few features, keys and values, so that ties and repeated texts are common. A (context, feature) pair comes once.
row = st.tuples(
    st.integers(0, 2),  # feature
    st.sampled_from([0.25, 0.5, 0.5000001, 1.0, 1.5, 3.0]),
    st.integers(0, 4),  # key
    st.lists(st.floats(0.125, 3, width=32), min_size=1, max_size=3),
)


def table(rows: list[tuple], numbers: list[int]) -> Rows:
    """``numbers`` are context numbers; the priority depends on feature and text alone, as in a run."""
    return Rows(
        feature=torch.tensor([r[0] for r in rows], dtype=torch.int32),
        context=torch.tensor(numbers, dtype=torch.int32),
        value=torch.tensor([r[1] for r in rows], dtype=torch.float32),
        peak=torch.zeros(len(rows), dtype=torch.int16),
        priority=torch.tensor([priority(r[0], r[2]) for r in rows], dtype=torch.int64),
        length=torch.tensor([len(r[3]) for r in rows], dtype=torch.int16),
        positions=torch.tensor([p for r in rows for p in range(len(r[3]))], dtype=torch.int16),
        values=torch.tensor([v for r in rows for v in r[3]], dtype=torch.float32),
    )


def priority(feature: int, key: int) -> int:
    """Of one feature, one number for each text; across features the numbers fall as they like."""
    return (feature * 7 + key * 13) % 17


def as_set(rows: Rows) -> set[tuple]:
    ends = rows.length.long().cumsum(0).tolist()
    cuts = [slice(e - n, e) for e, n in zip(ends, rows.length.tolist(), strict=True)]
    columns = (rows.feature, rows.context, rows.value, rows.priority)
    return {
        (*(c[i].item() for c in columns), tuple(rows.positions[cut].tolist()), tuple(rows.values[cut].tolist()))
        for i, cut in enumerate(cuts)
    }


def reduced(rows: Rows) -> Rows:
    return reduce(rows, TOP, RESERVOIR, d_sae=3).rows


def kept_by_hand(rows: list[tuple], numbers: list[int]) -> set[tuple[int, int]]:
    """(feature, context) of what must be kept, one feature at a time."""
    kept = set()
    best_first = sorted(zip(rows, numbers, strict=True), key=lambda r: (-r[0][1], r[1]))
    for feature in {r[0] for r in rows}:
        own = [(r, n) for r, n in best_first if r[0] == feature]
        kept |= {(feature, n) for n in distinct(own)[:TOP]}
        for o in {np.floor(np.log2(r[1])) for r, _ in own}:
            members = [(r, n) for r, n in own if np.floor(np.log2(r[1])) == o]
            sample = {n: priority(feature, key) for n, key in distinct_keys(members)}
            kept |= {(feature, n) for n in sorted(sample, key=lambda n: sample[n])[:RESERVOIR]}
    return kept


def distinct(ranked: list[tuple]) -> list[int]:
    return [n for n, _ in distinct_keys(ranked)]


def distinct_keys(ranked: list[tuple]) -> list[tuple[int, int]]:
    first: dict[int, int] = {}
    for r, n in ranked:
        first.setdefault(r[2], n)
    return [(n, key) for key, n in first.items()]


@given(st.lists(row, max_size=40))
def test_reduce_keeps_what_brute_force_keeps(rows: list[tuple]):
    numbers = list(range(len(rows)))
    got = reduced(table(rows, numbers))
    assert {(f, c) for f, c, *_ in as_set(got)} == kept_by_hand(rows, numbers)
    assert as_set(got) <= as_set(table(rows, numbers))


@given(st.lists(row, min_size=1, max_size=40), st.randoms(use_true_random=False), st.integers(1, 5))
@settings(max_examples=200)
def test_any_split_merged_in_any_order_is_the_same_table(rows: list[tuple], random, n_parts: int):
    numbers = list(range(len(rows)))
    whole = reduced(table(rows, numbers))
    random.shuffle(numbers)
    parts = [numbers[i::n_parts] for i in range(n_parts)]
    merged = Rows.empty()
    for part in parts:
        merged = reduced(Rows.concatenate([merged, reduced(table([rows[n] for n in part], part))]))
    for column in fields(Rows):
        assert torch.equal(getattr(merged, column.name), getattr(whole, column.name)), column.name


@given(st.lists(row, min_size=1, max_size=40))
@settings(max_examples=200)
def test_a_row_that_could_not_enter_is_not_kept(rows: list[tuple]):
    half = len(rows) // 2
    kept = reduce(table(rows[:half], list(range(half))), TOP, RESERVOIR, d_sae=3)
    rest = table(rows[half:], list(range(half, len(rows))))
    could = kept.could_enter(rest.feature.long(), rest.value, rest.priority)
    everything = reduced(Rows.concatenate([kept.rows, rest]))
    assert as_set(reduced(Rows.concatenate([kept.rows, rest.take(could.nonzero().squeeze(1))]))) == as_set(everything)


@given(st.floats(2.0**-40, 2.0**40, width=32))
def test_octaves_are_exact(value: float):
    found = int(octave(torch.tensor([value]))[0])
    if -16 <= np.log2(value) < 16:
        assert 2.0**found <= value < 2.0 ** (found + 1)
    else:
        assert found in {-16, 15}
