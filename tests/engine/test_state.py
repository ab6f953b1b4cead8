"""The state of an extraction: any split into shards, merged in any order, is what brute force finds, byte for byte."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.engine.capture import Batch
from jobs.engine.codes import Codes, Triples
from jobs.engine.corpus import Context
from jobs.engine.errors import DamagedState, NotFinite
from jobs.engine.extraction import ExtractionSettings
from jobs.engine.state import State, merge_all
from tests.engine import plain_state

D_SAE, D, N_EXPERTS = 5, 3, 4  # the last feature is dead
SETTINGS = ExtractionSettings(top=2, reservoir=1, seed=7)

# Few values and few tokens, so that ties and repeated texts are common.
activation = st.sampled_from([0.0, 0.0, 0.0, 0.25, 0.5, 0.5, 0.75, 1.0, float(np.float32(1.1)), 6.0, 2.0**-20, 2.0**17])
token = st.tuples(
    st.integers(0, 1),  # id
    st.booleans(),  # unmasked
    st.tuples(*[activation] * (D_SAE - 1)),
    st.tuples(*[activation] * (D_SAE - 1)),
)
corpus = st.lists(st.lists(token, min_size=1, max_size=4), min_size=1, max_size=9)


def plain(texts: list) -> list[plain_state.Context]:
    found = []
    for number, tokens in enumerate(texts):
        acts = [[*a, 0.0] for _, _, a, _ in tokens]
        near = [
            [n if a == 0 else 0.0 for n, a in zip(close, fires, strict=True)] + [0.0] for _, _, fires, close in tokens
        ]
        found.append(plain_state.Context(number, [t[0] for t in tokens], [t[1] for t in tokens], acts, near))
    return found


def read(contexts: list[plain_state.Context]) -> tuple[Batch, Codes, torch.Tensor]:
    """A batch as the model and the SAE would give it; what a token's x is follows from its context and place."""
    longest = max(len(c.token_ids) for c in contexts)
    ids, mask = torch.zeros(len(contexts), longest, dtype=torch.long), torch.zeros(len(contexts), longest).bool()
    tables = torch.zeros(2, len(contexts), longest, D_SAE)
    x = torch.zeros(len(contexts), longest, D)
    for i, c in enumerate(contexts):
        n = len(c.token_ids)
        ids[i, :n], mask[i, :n] = torch.tensor(c.token_ids), torch.tensor(c.mask)
        tables[0, i, :n], tables[1, i, :n] = torch.tensor(c.acts), torch.tensor(c.near)
        x[i, :n] = torch.randn(n, D, generator=torch.Generator().manual_seed(c.number))
    members = [Context(c.number, f"d{c.number}", "", 0, np.array(c.token_ids, np.int32)) for c in contexts]
    lengths = torch.tensor([len(c.token_ids) for c in contexts])
    triples = []
    for table in tables:
        values = table[mask]
        place, feature = (values > 0).nonzero(as_tuple=True)
        triples.append(Triples(place, feature, values[place, feature]))
    batch = Batch(members, ids, lengths, x, mask, n_special=int((~mask).sum()), n_sinks=0)
    return batch, Codes(int(mask.sum()), *triples), x[mask] * 0.75


def empty(n_contexts: int) -> State:
    return State.empty(D_SAE, D, SETTINGS, n_contexts)


def state_of(batches: list[list[plain_state.Context]], n_contexts: int) -> State:
    state = empty(n_contexts)
    for contexts in batches:
        state.update(*read(contexts), SETTINGS.seed)
    return state


def check_same(got: dict[str, torch.Tensor], want: dict[str, torch.Tensor] | dict[str, np.ndarray]) -> None:
    for name, array in want.items():
        expected = np.asarray(array)
        assert got[name].numpy().dtype == expected.dtype, name
        assert got[name].numpy().tobytes() == expected.tobytes(), name


@given(corpus, st.randoms(use_true_random=False), st.integers(1, 4), st.integers(1, 3), st.booleans())
@settings(max_examples=250)
def test_any_split_in_any_order_is_brute_force_to_the_byte(
    texts: list, rng: random.Random, n_shards: int, batch: int, tree: bool
):
    contexts = plain(texts)
    batches = [contexts[i : i + batch] for i in range(0, len(contexts), batch)]
    whole = state_of(batches, len(contexts)).arrays()
    truth = plain_state.Truth(contexts, D_SAE, SETTINGS.top, SETTINGS.reservoir, SETTINGS.seed).arrays()
    check_same(whole, truth)

    rng.shuffle(batches)
    shards = [state_of(batches[i::n_shards], len(contexts)) for i in range(n_shards)]
    shards = [State.from_arrays(s.arrays()) if rng.random() < 0.7 else s for s in shards]
    rng.shuffle(shards)
    if tree:
        merged = merge_all(shards)
        assert merged is not None
    else:
        merged = empty(len(contexts))
        for shard in shards:
            merged.merge(shard)
    got = merged.arrays()
    assert got.keys() == whole.keys()
    check_same(got, whole)


@given(st.lists(st.lists(token, min_size=2, max_size=4), min_size=2, max_size=9), st.integers(1, 3))
def test_compacting_often_changes_nothing(texts: list, every: int):
    contexts = plain(texts)
    lazy, eager = empty(len(contexts)), empty(len(contexts))
    for i, context in enumerate(contexts):
        lazy.update(*read([context]), SETTINGS.seed)
        eager.update(*read([context]), SETTINGS.seed)
        if i % every == 0:
            eager.fired.compact()
            eager.near.compact()
    check_same(eager.arrays(), lazy.arrays())


def test_a_state_is_saved_whole_and_a_damaged_one_is_refused(tmp_path: Path):
    contexts = plain([[(0, True, (0.5, 0.0, 1.0, 0.0), (0.0, 0.25, 0.0, 0.0))]])
    state = state_of([contexts], 1)
    path = tmp_path / "one.safetensors"
    state.save(path)
    check_same(State.load(path).arrays(), state.arrays())
    assert list(tmp_path.iterdir()) == [path]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedState, match=r"one\.safetensors is not a whole shard state"):
        State.load(path)


def test_nan_is_refused_and_not_counted():
    batch, codes, x_hat = read(plain([[(0, True, (0.5, 0.0, 0.0, 0.0), (0.0,) * 4)]]))
    batch.x[:] = torch.nan
    with pytest.raises(NotFinite, match="NaN or infinite"):
        empty(1).update(batch, codes, x_hat, 0)


def test_silent_contexts_are_those_in_which_a_feature_never_fires():
    texts = [[(i, True, (1.0 if i % 3 == 0 else 0.0, 1.0, 0.0, 0.0), (0.0,) * 4)] for i in range(30)]
    state = state_of([plain(texts)], len(texts))
    feature, context = state.pool.silent(D_SAE, SETTINGS.seed)
    of_first = context[feature == 0]
    assert len(set(of_first.tolist())) == 4
    assert (of_first % 3 != 0).all()
    assert 1 not in feature  # it fires everywhere
    assert (feature == 4).sum() == 4  # the dead one
    again = state.pool.silent(D_SAE, SETTINGS.seed + 1)
    assert context.tolist() != again[1].tolist()


def with_experts(contexts: list[plain_state.Context]) -> tuple[Batch, Codes, torch.Tensor]:
    """As ``read``, and token 0 goes to experts 0 and 1, token 1 to experts 1 and 2."""
    batch, codes, x_hat = read(contexts)
    return replace(batch, experts=batch.token_ids[..., None] + torch.arange(2)), codes, x_hat


def test_experts_are_counted_beside_everything_else_and_of_unmasked_tokens_alone(tmp_path: Path):
    fires = (1.0, 0.0, 0.5, 0.0)
    texts = [
        [(0, True, fires, (0.0,) * 4), (1, True, (1.0, 0.0, 0.0, 0.0), (0.0,) * 4)],
        [(1, False, fires, (0.0,) * 4)],
    ]
    contexts = plain([*texts, *texts])
    halves = [State.empty(D_SAE, D, SETTINGS, 4, n_experts=N_EXPERTS) for _ in range(2)]
    for state, members in zip(halves, (contexts[:2], contexts[2:]), strict=True):
        state.update(*with_experts(members), SETTINGS.seed)
        state.save(tmp_path / f"{members[0].number}")
    merged = merge_all(State.load(path) for path in sorted(tmp_path.iterdir(), reverse=True))
    assert merged is not None
    got, want = merged.arrays(), state_of([contexts[:2], contexts[2:]], 4).arrays()
    check_same(got, want)
    assert got.keys() - want.keys() == {"experts.together", "experts.chosen", "experts.n_tokens"}
    together = {0: [2, 4, 2, 0], 2: [2, 2, 0, 0]}
    assert got["experts.together"].tolist() == [together.get(f, [0] * 4) for f in range(D_SAE)]
    assert (got["experts.chosen"].tolist(), got["experts.n_tokens"].tolist()) == ([2, 4, 2, 0], [4])


def test_quality_is_that_of_what_a_transcoder_writes():
    contexts = plain([[(0, True, (0.5, 0.0, 0.0, 0.0), (0.0,) * 4)] * 3])
    batch, codes, _ = read(contexts)
    written = torch.randn(*batch.mask.shape, 7)
    state = State.empty(D_SAE, 7, SETTINGS, 1)
    state.update(replace(batch, written=written), codes, written[batch.mask], 0)
    assert state.quality.result().explained_variance == 1


def test_merge_all_of_nothing_is_nothing():
    assert merge_all([]) is None
