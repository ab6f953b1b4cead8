"""Grouping by (context, feature), against a loop; keys and chances."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jobs.engine import hashing
from jobs.engine.codes import Triples
from jobs.engine.firings import Pairs, Places, near_misses
from jobs.engine.rows import N_OCTAVES, Kept, Rows

values = st.sampled_from([0.0, 0.0, 0.0, 0.5, 0.5, 1.0, 2.0])


def triples(table: np.ndarray, mask: np.ndarray) -> Triples:
    unmasked = torch.from_numpy(table)[torch.from_numpy(mask)]
    token, feature = (unmasked > 0).nonzero(as_tuple=True)
    return Triples(token, feature, unmasked[token, feature])


def places(mask: np.ndarray) -> Places:
    tokens = torch.arange(mask.size).reshape(mask.shape)
    keys = hashing.keys(tokens, torch.full((len(mask),), mask.shape[1]))
    context, position = torch.from_numpy(mask).nonzero(as_tuple=True)
    return Places(torch.arange(len(mask)) + 100, context, position, keys)


@given(hnp.arrays(np.float32, (3, 5, 4), elements=values), hnp.arrays(np.bool_, (3, 5)))
@settings(max_examples=150)
def test_pairs_are_those_of_a_loop(acts: np.ndarray, mask: np.ndarray):
    pairs = Pairs(triples(acts, mask), places(mask), d_sae=4)
    best = pairs.best(seed=0)
    rows = pairs.rows(best, torch.ones_like(best.cell, dtype=torch.bool))
    found, end = {}, 0
    for i in range(len(rows)):
        cut = slice(end, end := end + int(rows.length[i]))
        stored = dict(zip(rows.positions[cut].tolist(), rows.values[cut].tolist(), strict=True))
        found[int(rows.context[i]) - 100, int(rows.feature[i])] = (stored, float(rows.value[i]), int(rows.peak[i]))
    want = {}
    for c in range(3):
        for f in range(4):
            own = {p: float(acts[c, p, f]) for p in range(5) if mask[c, p] and acts[c, p, f] > 0}
            if own:
                maximum = max(own.values())
                want[c, f] = (own, maximum, min(p for p, v in own.items() if v == maximum))
    assert found == want


@given(hnp.arrays(np.float32, (2, 3, 5, 4), elements=values), st.sampled_from([0.0, 0.6, 1.0]))
def test_near_misses_are_the_closest_of_silent_features(tables: np.ndarray, least: float):
    acts, close = tables
    mask = np.ones((3, 5), bool)
    close[acts > 0] = 0
    fired = Pairs(triples(acts, mask), places(mask), d_sae=4)
    kept = Kept(Rows.empty(), torch.full((4,), least), torch.full((4 * N_OCTAVES,), -1))
    rows = near_misses(triples(close, mask), fired, kept, seed=0)
    columns = (rows.context - 100, rows.feature, rows.value, rows.peak)
    found = set(zip(*(c.tolist() for c in columns), strict=True))
    want = set()
    for c in range(3):
        for f in range(4):
            highest = close[c, :, f].max()
            if not acts[c, :, f].any() and highest > 0 and highest >= least:
                want.add((c, f, float(highest), int(close[c, :, f].argmax())))
    assert found == want


def test_keys_name_the_text_around_a_place_and_nothing_else():
    tokens = torch.arange(100, 140).repeat(4, 1)
    tokens[1, 0] = tokens[1, 39] = 7  # far from 20
    tokens[2, 27] = 7  # near it
    lengths = torch.tensor([40, 40, 40, 25])  # the last ends within reach
    keys = hashing.keys(tokens, lengths)[:, 20]
    assert keys[0] == keys[1]
    assert len({k.item() for k in keys}) == 3


def test_mix_spreads_and_stays_non_negative():
    mixed = hashing.mix(torch.arange(200_000))
    assert (mixed >= 0).all()
    assert len(mixed.unique()) == 200_000
    bits = torch.stack([(mixed >> b) & 1 for b in range(61)]).double().mean(1)
    assert ((bits > 0.49) & (bits < 0.51)).all()


def test_a_sample_is_drawn_without_repetition_and_by_seed():
    first = hashing.sample(1000, 50, 0)
    assert len(first.unique()) == 50
    assert torch.equal(first, first.sort().values)
    assert set(hashing.sample(1000, 20, 0).tolist()) < set(first.tolist())
    assert not torch.equal(first, hashing.sample(1000, 50, 1))
    assert hashing.sample(3, 50, 0).tolist() == [0, 1, 2]


def test_another_seed_draws_another_sample():
    acts = np.random.default_rng(0).random((1, 40, 30), np.float32)
    mask = np.ones((1, 40), bool)
    runs = [Pairs(triples(acts, mask), places(mask), 30).best(seed).priority for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0].argsort(), runs[2].argsort())
