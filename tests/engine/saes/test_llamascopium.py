"""Llamascopium: variants that no fixture has, by the formulas of its library."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae
from jobs.engine.saes.activations import JumpReLU
from tests.engine.saes.cases import case

NAME = "llamascopium__jumprelu"
HOOK = "blocks.12.hook_resid_post"
NORM, LOG = "dataset_average_activation_norm", "activation_function.log_jumprelu_threshold"
X = torch.randn(30, 24, generator=torch.Generator().manual_seed(1)) * 5


def stored() -> dict[str, Tensor]:
    return load_file(case(NAME)[1] / "sae_weights.safetensors")


def edited(target: Path, config: dict[str, Any] | None = None, tensors: dict[str, Tensor | None] | None = None) -> Path:
    """A copy of the fixture with fields of the config and tensors replaced; None removes one."""
    fields = json.loads((case(NAME)[1] / "config.json").read_text()) | (config or {})
    weights = stored() | (tensors or {})
    if fields["act_fn"] != "jumprelu" and LOG not in (tensors or {}):
        weights[LOG] = None
    target.mkdir()
    (target / "config.json").write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))
    save_file({k: v for k, v in weights.items() if v is not None}, target / "sae_weights.safetensors")
    return target


@pytest.mark.parametrize("include_norms", [True, False, None])
@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
@pytest.mark.parametrize("dataset_wise", [True, False])
def test_formulas(tmp_path: Path, act_fn: str, include_norms: bool | None, dataset_wise: bool) -> None:
    """As a transcoder, so that both scales count."""
    config = {
        "act_fn": act_fn,
        "top_k": 5,
        "sparsity_include_decoder_norm": include_norms,
        "norm_activation": "dataset-wise" if dataset_wise else "inference",
        "hook_point_out": "blocks.12.hook_mlp_out",
    }
    garbage = torch.tensor(3.25 if dataset_wise else torch.nan)
    w = stored()
    sae = load_sae(edited(tmp_path / "sae", config, {f"{NORM}.blocks.12.hook_mlp_out": garbage}))
    scale_in, scale_out = (24**0.5 / 9.25, 24**0.5 / 3.25) if dataset_wise else (1.0, 1.0)
    p = (X * scale_in) @ w["W_E"] + w["b_E"]
    n = w["W_D"].norm(dim=1) if include_norms in (True, None) else torch.ones(64)
    s = p * n
    gate = {
        "relu": s > 0,
        "jumprelu": s > w[LOG].exp(),
        "topk": (s >= s.sort(descending=True).values[:, 4:5]) & (s > 0),
    }[act_fn]
    f = torch.where(gate, s, 0.0) / n
    torch.testing.assert_close(sae.encode(X), f, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(sae(X), (f @ w["W_D"] + w["b_D"]) / scale_out, atol=1e-3, rtol=1e-4)
    assert sae.architecture == ("transcoder" if act_fn == "relu" else f"{act_fn}_transcoder")
    assert (sae.hook, sae.layer, sae.hook_out, sae.layer_out) == ("resid_post", 12, "mlp_out", 12)
    assert sae.source.normalisation == ("dataset-wise, folded into the weights" if dataset_wise else None)


def test_the_norms_decide_which_features_are_chosen(tmp_path: Path) -> None:
    with_norms = load_sae(edited(tmp_path / "a", {"act_fn": "topk", "top_k": 5})).encode(X)
    config = {"act_fn": "topk", "top_k": 5, "sparsity_include_decoder_norm": False}
    assert not torch.equal(with_norms > 0, load_sae(edited(tmp_path / "b", config)).encode(X) > 0)


def test_without_a_decoder_bias(tmp_path: Path) -> None:
    sae = load_sae(edited(tmp_path / "sae", {"use_decoder_bias": False}, {"b_D": None}))
    assert (sae.b_dec == 0).all()
    assert sae.d_out == 24


@pytest.mark.parametrize("act_fn", ["relu", "jumprelu", "topk"])
def test_a_decoder_row_of_zeros_never_fires(tmp_path: Path, act_fn: str) -> None:
    W_D, log = stored()["W_D"], stored()[LOG]
    W_D[3] = 0
    log[4], log[5] = 100.0, -200.0  # exp overflows and underflows
    tensors: dict[str, Tensor | None] = {"W_D": W_D}
    if act_fn == "jumprelu":
        tensors[LOG] = log
    sae = load_sae(edited(tmp_path / "sae", {"act_fn": act_fn, "top_k": 60}, tensors))
    f = sae.encode(X)
    assert (f[:, 3] == 0).all()
    assert torch.isfinite(sae(X)).all()
    assert (f[:, 5] > 0).any()
    if isinstance(sae.activation, JumpReLU):
        assert torch.isfinite(sae.activation.threshold).all()
        assert (f[:, 4] == 0).all()


def test_expansion_factors_make_whole_numbers(tmp_path: Path) -> None:
    assert load_sae(edited(tmp_path / "a", {"expansion_factor": 2.68})).d_sae == 64
    assert load_sae(edited(tmp_path / "b", {"expansion_factor": None})).d_sae == 64


def test_overrides_and_the_model_name(tmp_path: Path) -> None:
    path = edited(tmp_path / "a", {"act_fn": "topk", "top_k": None})
    (path / "lm_config.json").write_text('{"model_name": "Qwen/Qwen3-1.7B"}')
    sae = load_sae(path, k=3, layer=2)
    assert (sae.k, sae.layer, sae.model_name) == (3, 2, "Qwen/Qwen3-1.7B")
    with pytest.raises(SAELoadError, match="relu has no k"):
        load_sae(edited(tmp_path / "b", {"act_fn": "relu"}), k=3)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        *(({"act_fn": a}, f"act_fn '{a}'") for a in ("batchtopk", "batchlayertopk", "JumpReLU")),
        *(({"sae_type": t}, f"sae_type '{t}'") for t in ("clt", "crosscoder", "lorsa", "molt")),
        ({"sae_type": None}, "no sae_type; known are sae"),
        ({"use_glu_encoder": True}, "use_glu_encoder"),
        ({"norm_activation": "token-wise"}, "norm_activation 'token-wise'"),
        ({"norm_activation": "batch-wise"}, "norm_activation 'batch-wise'"),
        ({"act_fn": "topk", "top_k": None}, "give k"),
        ({"act_fn": "topk", "top_k": 65}, "k is 65 .* 64 features"),
        ({"d_model": 32}, "says d_model 32"),
        ({"expansion_factor": 3}, "expansion_factor 3, .* 64 features of 24"),
        ({"expansion_factor": 1e308}, r"expansion_factor 1e\+308"),
        ({"use_decoder_bias": False}, "use_decoder_bias False, but .* holds b_D"),
        ({"hook_point_out": "blocks.12.hook_mlp_out"}, "no tensor .*hook_mlp_out, which .* dataset-wise needs"),
        ({"hook_point_in": None}, "no hook_point_in"),
        ({"sparsity_include_decoder_norm": 1}, "sparsity_include_decoder_norm 1"),
    ],
)
def test_refuses_configs(tmp_path: Path, config: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*config\.json|.*sae_weights)(?=.*{fault})") as refusal:
        load_sae(edited(tmp_path / "sae", config))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({"b_D": None}, "use_decoder_bias True, but .* does not hold b_D"),
        ({LOG: None}, f"no tensor {LOG}"),
        ({f"{NORM}.{HOOK}": torch.tensor(torch.nan)}, "NaN or infinite"),
        ({f"{NORM}.{HOOK}": torch.tensor(-2.9e21)}, r"is -2\.9e\+21, which no norm"),
        ({f"{NORM}.{HOOK}": torch.tensor(0.0)}, "is 0, which no norm"),
        ({f"{NORM}.{HOOK}": torch.tensor(1e-38)}, "scaled by .* NaN or infinite"),
        ({f"{NORM}.{HOOK}": torch.ones(2)}, "a single number"),
        ({"W_D": torch.zeros(4, 64, 24)}, r"W_D as \[4, 64, 24\]"),
        ({"W_E": torch.zeros(64, 24)}, "W_E as .* transposed"),
        ({"W_skip": torch.zeros(24, 24)}, "W_skip"),
        ({"W_D": torch.full((64, 24), 1e30)}, "norm of the decoder .* infinite"),
        ({LOG: torch.full((64,), -torch.inf)}, "infinite"),
    ],
)
def test_refuses_tensors(tmp_path: Path, tensors: dict[str, Tensor | None], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*sae_weights\.safetensors)(?=.*{fault})"):
        load_sae(edited(tmp_path / "sae", tensors=tensors))


def test_refuses_thresholds_of_another_activation(tmp_path: Path) -> None:
    tensors: dict[str, Tensor | None] = {LOG: torch.zeros(64)}
    with pytest.raises(SAELoadError, match=f"act_fn topk, but .* holds {LOG}"):
        load_sae(edited(tmp_path / "sae", {"act_fn": "topk"}, tensors))
