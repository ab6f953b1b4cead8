"""Grouping of firings by (context, feature), against a loop; keys and priorities."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jobs.engine.firings import find_firings, keys_around, mix

values = st.sampled_from([0.0, 0.0, 0.0, 0.5, 0.5, 1.0, 2.0])


@given(hnp.arrays(np.float32, (3, 5, 4), elements=values), hnp.arrays(np.bool_, (3, 5)))
@settings(max_examples=150)
def test_pairs_are_those_of_a_loop(acts: np.ndarray, mask: np.ndarray):
    kept = torch.from_numpy(mask)
    tokens = torch.arange(15).reshape(3, 5)
    found = find_firings(torch.from_numpy(acts)[kept], kept.nonzero(), tokens, torch.tensor([5, 5, 5]), seed=0)
    pairs = {}
    for i, pair in enumerate(zip(found.pair_context.tolist(), found.pair_feature.tolist(), strict=True)):
        mine = found.pair == i
        stored = dict(zip(found.position[mine].tolist(), found.value[mine].tolist(), strict=True))
        pairs[pair] = (stored, found.maximum[i].item(), found.peak[i].item())
        assert found.length[i] == len(stored)
    want = {}
    for c in range(3):
        for f in range(4):
            own = {p: float(acts[c, p, f]) for p in range(5) if mask[c, p] and acts[c, p, f] > 0}
            if own:
                maximum = max(own.values())
                want[c, f] = (own, maximum, min(p for p, v in own.items() if v == maximum))
    assert pairs == want


def test_keys_name_the_text_around_the_peak_and_nothing_else():
    tokens = torch.arange(100, 140).repeat(4, 1)
    tokens[1, 0] = tokens[1, 39] = 7  # far from the peak at 20
    tokens[2, 27] = 7  # near it
    lengths = torch.tensor([40, 40, 40, 25])  # the last ends within reach of the peak
    keys = keys_around(tokens, lengths, torch.arange(4), torch.full((4,), 20))
    assert keys[0] == keys[1]
    assert len({k.item() for k in keys}) == 3


def test_mix_spreads_and_stays_non_negative():
    mixed = mix(torch.arange(200_000))
    assert (mixed >= 0).all()
    assert len(mixed.unique()) == 200_000
    bits = torch.stack([(mixed >> b) & 1 for b in range(61)]).double().mean(1)
    assert ((bits > 0.49) & (bits < 0.51)).all()


def test_another_seed_draws_another_sample():
    acts = torch.rand(40, 30)
    places = torch.stack([torch.zeros(40, dtype=torch.long), torch.arange(40)], dim=1)
    runs = [find_firings(acts, places, torch.arange(40)[None], torch.tensor([40]), seed) for seed in (0, 0, 1)]
    assert torch.equal(runs[0].priority, runs[1].priority)
    assert not torch.equal(runs[0].priority.argsort(), runs[2].priority.argsort())
