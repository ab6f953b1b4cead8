"""Sparse codes against the dense ones: ties, chunks, near misses, and what is made of them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jobs.engine import codes
from jobs.engine.saes import SAE, load_sae
from jobs.engine.saes.activations import JumpReLU, TopK
from tests.engine import tiny, written

N_NEAR = 3


HOOK = "blocks.1.hook_resid_post"
WRITE: dict[str, Callable[[Path], Path]] = {
    "topk": lambda p: tiny.write_sae(p, architecture="topk"),
    "jumprelu": lambda p: tiny.write_sae(p, architecture="jumprelu"),
    "standard": lambda p: tiny.write_sae(p, architecture="standard"),
    "rank_by": lambda p: written.llamascopium(p, tiny.D_MODEL, HOOK, "topk"),
    "no relu": lambda p: written.qwen_scope(p, tiny.D_MODEL, 1, -4.0),
    "never fires": lambda p: written.llamascopium(p, tiny.D_MODEL, HOOK, "jumprelu", n_zero=3),
    "groupmax": lambda p: written.sparsify(p / "layers.1", tiny.D_MODEL, activation="groupmax"),
}


@pytest.fixture(params=WRITE)
def sae(request: pytest.FixtureRequest, tmp_path: Path) -> SAE:
    return load_sae(WRITE[request.param](tmp_path / "sae"))


@pytest.fixture(params=[1 << 22, 7 * tiny.D_SAE])  # all tokens at once, and seven at a time
def x(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    monkeypatch.setitem(codes.CELLS, "cpu", request.param)
    monkeypatch.setattr(codes, "ROWS", 1)
    return torch.randn(40, tiny.D_MODEL, generator=torch.Generator().manual_seed(0))


def test_firings_are_the_dense_activations(sae: SAE, x: torch.Tensor):
    found = codes.encode(sae, x, N_NEAR).firings
    want = sae.encode(x)
    assert len(found) == int((want > 0).sum()) > 40
    assert (found.token.diff() >= 0).all()
    torch.testing.assert_close(found.value, want[found.token, found.feature])


def test_what_is_kept_below_zero_is_no_firing_but_active(sae: SAE, x: torch.Tensor):
    found, want = codes.encode(sae, x, N_NEAR), sae.encode(x)
    active = found.active
    dense = torch.zeros_like(want).index_put((active.token, active.feature), active.value)
    torch.testing.assert_close(dense, want)
    assert len(active) == int((want != 0).sum())
    assert (active.token.diff() >= 0).all()
    assert (len(active) > len(found.firings)) == (getattr(sae.activation, "relu", True) is False)


def test_near_misses_are_what_comes_next(sae: SAE, x: torch.Tensor):
    """By what features are chosen by: their distance to the threshold, p, or p times the norm of the decoder row."""
    found = codes.encode(sae, x, N_NEAR).near
    p, fires = sae.pre_activations(x), sae.encode(x) > 0
    distance = p - getattr(sae.activation, "threshold", torch.zeros(sae.d_sae))
    if isinstance(sae.activation, TopK) and sae.activation.rank_by is not None:
        distance = p * sae.W_dec.norm(dim=1)
    total = 0
    has_none = not isinstance(sae.activation, TopK | JumpReLU)
    for token in range(len(x)):
        silent = [f for f in range(sae.d_sae) if not fires[token, f] and p[token, f] > 0 and distance[token, f] > -1e30]
        nearest = [] if has_none else sorted(silent, key=lambda f: (-distance[token, f].item(), f))[:N_NEAR]
        mine = found.token == token
        assert set(found.feature[mine].tolist()) == set(nearest)
        torch.testing.assert_close(found.value[mine], p[token, found.feature[mine]])
        total += len(nearest)
    assert (total > 0) != has_none


def test_a_feature_that_can_never_fire_is_no_near_miss(tmp_path: Path, x: torch.Tensor):
    sae = load_sae(WRITE["never fires"](tmp_path / "sae"))
    assert (sae.pre_activations(x)[:, -3:] > 0).any()
    assert set(codes.encode(sae, x, sae.d_sae).near.feature.tolist()) == set(range(sae.d_sae - 3))


def test_the_reconstruction_is_the_dense_one(sae: SAE, x: torch.Tensor, monkeypatch: pytest.MonkeyPatch):
    found = codes.encode(sae, x, N_NEAR)
    want = sae.decode(sae.encode(x), x)
    for share in (0.0, 1.0):  # always by matrix product, always by sparse sums
        monkeypatch.setattr(codes, "DENSE", share)
        torch.testing.assert_close(codes.reconstruct(sae, found, x), want, rtol=1e-5, atol=1e-5)


def test_of_equal_features_the_lower_index_is_kept():
    scores = torch.tensor([[1.0, 5.0, 3.0, 3.0, 3.0, 2.0], [4.0, 1.0, 1.0, 0.0, 0.0, 0.0], [2.0] * 6])
    index, value = codes._best(scores, (2, 3), 0.0)
    assert index[0, :2].tolist() == [1, 2]
    assert index[0, 2] == 3
    assert index[1, :3].tolist() == [0, 1, 2]
    assert index[2].tolist() == [0, 1, 2]
    assert value[0].tolist() == [5, 3, 3]


def test_no_tokens_give_no_codes(sae: SAE):
    none = torch.empty(0, tiny.D_MODEL)
    found = codes.encode(sae, none, N_NEAR)
    assert len(found.firings) == len(found.near) == found.n == 0
    assert codes.reconstruct(sae, found, none).shape == (0, tiny.D_MODEL)
