"""Which experts a feature's tokens go to: any split of them adds up to brute force, byte for byte."""

import random
from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from jobs.engine import experts
from jobs.engine.experts import ExpertSums, chosen_experts

D_SAE, N_EXPERTS = 4, 5  # nothing fires feature 3, and few tokens go to the last expert

token = st.tuples(
    st.lists(st.integers(0, N_EXPERTS - 1), min_size=2, max_size=2, unique=True),
    st.sets(st.integers(0, D_SAE - 2)),
)
texts = st.lists(token, max_size=40)


def add(sums: ExpertSums, tokens: list) -> None:
    """As a batch gives them: the experts of each token, and the firings in the order of tokens."""
    firings = [(place, feature) for place, (_, features) in enumerate(tokens) for feature in sorted(features)]
    columns = torch.tensor(firings, dtype=torch.int64).view(-1, 2)
    chosen = torch.tensor([chosen for chosen, _ in tokens], dtype=torch.int64).view(-1, 2)
    sums.update(chosen, columns[:, 0], columns[:, 1])


def sums_of(tokens: list) -> ExpertSums:
    sums = ExpertSums(D_SAE, N_EXPERTS)
    add(sums, tokens)
    return sums


def n_firing(tokens: list) -> Tensor:
    return torch.tensor([sum(f in features for _, features in tokens) for f in range(D_SAE)])


@given(texts, st.randoms(use_true_random=False), st.integers(1, 4), st.integers(1, 7))
def test_any_split_in_any_order_is_brute_force_to_the_byte(tokens: list, rng: random.Random, shards: int, batch: int):
    together = Counter((f, e) for chosen, features in tokens for f in features for e in chosen)
    chosen_by = Counter(e for chosen, _ in tokens for e in chosen)
    want = {
        "experts.together": torch.tensor([[together[f, e] for e in range(N_EXPERTS)] for f in range(D_SAE)]),
        "experts.chosen": torch.tensor([chosen_by[e] for e in range(N_EXPERTS)]),
        "experts.n_tokens": torch.tensor([len(tokens)]),
    }
    rng.shuffle(tokens)
    states = [ExpertSums(D_SAE, N_EXPERTS) for _ in range(shards)]
    for start in range(0, len(tokens), batch):
        add(rng.choice(states), tokens[start : start + batch])
    states = [ExpertSums.from_arrays(s.arrays()) if rng.random() < 0.5 else s for s in states]
    rng.shuffle(states)
    for other in states[1:]:
        states[0].merge(other)
    got = states[0].arrays()
    assert got.keys() == want.keys()
    for name, array in want.items():
        assert got[name].dtype == array.dtype == torch.int64
        assert torch.equal(got[name], array), name


@given(texts, st.integers(1, 7))
def test_the_experts_chosen_are_those_of_brute_force(tokens: list, n: int):
    ids, share, lift = chosen_experts(sums_of(tokens), n_firing(tokens), n)
    assert (ids.dtype, share.dtype, lift.dtype) == (torch.int64, torch.float32, torch.float32)
    for feature in range(D_SAE):
        firing = [chosen for chosen, features in tokens if feature in features]
        found = []
        for expert in range(N_EXPERTS):
            count = sum(expert in chosen for chosen in firing)
            if count >= 3:
                prior = sum(expert in chosen for chosen, _ in tokens) / len(tokens)
                found.append((-round(count / len(firing) / prior, 9), expert, count / len(firing)))
        found = sorted(found)[:n]
        gaps = n - len(found)
        assert ids[feature].tolist() == [expert for _, expert, _ in found] + [-1] * gaps
        assert share[feature].tolist() == pytest.approx([s for *_, s in found] + [0] * gaps)
        assert lift[feature].tolist() == pytest.approx([-lift for lift, *_ in found] + [0] * gaps)


def test_a_feature_that_always_takes_one_expert_has_its_share_and_lift():
    tokens = [([0, 1], {0})] * 3 + [([2, 1], {1})] * 3 + [([2, 3], set())] * 6
    ids, share, lift = chosen_experts(sums_of(tokens), n_firing(tokens), 3)
    assert ids[:2].tolist() == [[0, 1, -1], [1, 2, -1]]
    assert share[0].tolist() == [1, 1, 0]
    assert lift[0].tolist() == [4, 2, 0]  # expert 0 takes 3 of 12 tokens, expert 1 takes 6
    assert lift[1].tolist() == pytest.approx([2, 12 / 9, 0])


def test_of_equal_lifts_the_lower_expert_comes_first():
    tokens = [([4, 1], {0})] * 5 + [([0, 3], set())] * 5
    ids, _, lift = chosen_experts(sums_of(tokens), n_firing(tokens))
    assert ids[0].tolist() == [1, 4] + [-1] * 6
    assert lift[0].tolist() == [2, 2] + [0] * 6


def test_features_are_ranked_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch):
    rng = random.Random(0)
    tokens = [(rng.sample(range(N_EXPERTS), 2), set(rng.sample(range(D_SAE), 2))) for _ in range(60)]
    whole = chosen_experts(sums_of(tokens), n_firing(tokens))
    monkeypatch.setattr(experts, "FEATURES", 3)
    for one, again in zip(whole, chosen_experts(sums_of(tokens), n_firing(tokens)), strict=True):
        assert torch.equal(one, again)


def test_many_experts_of_one_lift_come_in_order():
    sums = ExpertSums(2, 300)
    sums.update(torch.arange(300).repeat(4, 1), torch.arange(4), torch.zeros(4, dtype=torch.int64))
    assert chosen_experts(sums, torch.tensor([4, 0]), 200)[0][0].tolist() == list(range(200))
