"""Gemma Scope: built from random arrays, against the formula written out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae
from tests.engine.saes.cases import case

D, F = 6, 12
PATH = "layer_20/width_16k/average_l0_71"
Arrays = dict[str, Any]


def arrays(d_out: int = D) -> Arrays:
    random = np.random.default_rng(0)
    shapes = {"W_enc": (D, F), "W_dec": (F, d_out), "b_enc": (F,), "b_dec": (d_out,), "threshold": (F,)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def saved(folder: Path, found: Arrays) -> Path:
    """None removes an array."""
    folder.mkdir(parents=True)
    np.savez(folder / "params.npz", **{name: array for name, array in found.items() if array is not None})
    return folder


@pytest.mark.parametrize("lower", [(), ("W_enc",), ("W_dec",), ("W_enc", "W_dec")])
@pytest.mark.parametrize("d_out", [D, 4])
def test_formula(tmp_path: Path, d_out: int, lower: tuple[str, ...]) -> None:
    found = arrays(d_out)
    sae = load_sae(saved(tmp_path / PATH, {n.lower() if n in lower else n: a for n, a in found.items()}))
    w = {name: torch.from_numpy(array) for name, array in found.items()}
    x = torch.randn(20, D, generator=torch.Generator().manual_seed(1))
    p = x @ w["W_enc"] + w["b_enc"]
    acts = p.relu() * (p > w["threshold"])
    torch.testing.assert_close(sae.encode(x), acts)
    torch.testing.assert_close(sae(x), acts @ w["W_dec"] + w["b_dec"])
    transcoder = d_out != D
    assert (sae.is_transcoder, sae.d_out) == (transcoder, d_out)
    assert sae.architecture == ("jumprelu_transcoder" if transcoder else "jumprelu")


def test_threshold_equal_to_the_pre_activation_does_not_fire() -> None:
    acts = load_sae(case("gemma_scope__jumprelu")[1]).encode(torch.zeros(1, 24))
    assert (acts[0, :3] > 0).tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("path", "site"),
    [
        (PATH, (None, 20, None, None)),
        ("gemma-scope-2b-pt-res/" + PATH, ("resid_post", 20, None, None)),
        ("gemma-scope-9b-pt-mlp/" + PATH, ("mlp_out", 20, None, None)),
        ("models--google--gemma-scope-2b-pt-att/snapshots/0a1b/" + PATH, ("z", 20, None, None)),
        ("gemma-scope-2b-pt-transcoders/" + PATH, ("mlp_in_normalized", 20, "mlp_out", 20)),
        ("gemma-scope-9b-it-res/layer_3/layer_31/width_16k/canonical", ("resid_post", 31, None, None)),
        ("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", (None, 0, None, None)),
        ("gemma-scope-2b-pt-resampled/multilayer_4/x", (None, None, None, None)),
    ],
)
def test_the_path_says_where_it_reads(tmp_path: Path, path: str, site: tuple[object, ...]) -> None:
    sae = load_sae(saved(tmp_path / path, arrays()))
    assert (sae.hook, sae.layer, sae.hook_out, sae.layer_out) == site
    assert sae.is_transcoder == ("transcoders" in path)
    assert any("sqrt(d_in)" in note for note in sae.source.notes) == ("embedding" in path)


def test_a_transcoder_by_its_shape_is_no_autoencoder_of_the_residual_stream(tmp_path: Path) -> None:
    sae = load_sae(saved(tmp_path / "gemma-scope-2b-pt-res" / PATH, arrays(4)))
    assert (sae.is_transcoder, sae.hook, sae.hook_out, sae.layer) == (True, None, None, 20)


@pytest.mark.parametrize(("folder", "l0"), [("average_l0_71", 71.0), ("average_l0_5.5", 5.5), ("canonical", None)])
def test_reported_l0(tmp_path: Path, folder: str, l0: float | None) -> None:
    assert load_sae(saved(tmp_path / "layer_1" / folder, arrays())).reported_l0 == l0


def test_overrides_win(tmp_path: Path) -> None:
    path = saved(tmp_path / "gemma-scope-2b-pt-res" / PATH, arrays())
    assert load_sae(path, layer=2, hook="z").hook_point() == ("z", 2)
    assert load_sae(path / "params.npz", centred=True).centred
    with pytest.raises(SAELoadError, match=r"params\.npz.* jumprelu has no k"):
        load_sae(path, k=3)


@pytest.mark.parametrize(
    ("replaced", "fault"),
    [
        ({"threshold": None}, "no tensor threshold"),
        ({"threshold": np.zeros(())}, "threshold as"),
        ({"W_enc": np.zeros((F, D))}, "W_enc as .* transposed"),
        ({"W_dec": np.zeros((D, F))}, "W_dec as .* transposed"),
        ({"W_dec": np.zeros((2, F, D))}, "W_dec as"),
        ({"scale": np.ones(1)}, "'scale', which its format does not have"),
        ({"b_enc": np.full(F, np.inf)}, "b_enc .* infinite"),
        ({"b_enc": np.zeros(F, dtype=np.int64)}, "b_enc as no floats"),
    ],
)
def test_refuses_arrays(tmp_path: Path, replaced: Arrays, fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*params\.npz)(?=.*{fault})"):
        load_sae(saved(tmp_path / PATH, arrays() | replaced))
