"""Llama-Scope-R1: with and without the decoder's norms in the gate, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae
from tests.engine.saes.cases import case

NAME = "llamascope_r1__jumprelu"
NORM = "dataset_average_activation_norm.blocks.10.hook_resid_post"
X = torch.randn(30, 24, generator=torch.Generator().manual_seed(1)) * 5


def edited(target: Path, config: dict[str, Any] | None = None, tensors: dict[str, Tensor | None] | None = None) -> Path:
    """A copy of the fixture with fields of the config and tensors replaced; None removes one."""
    _, path = case(NAME)
    fields = json.loads((path / "config.json").read_text()) | (config or {})
    weights = load_file(path / "sae_weights.safetensors") | (tensors or {})
    target.mkdir()
    (target / "config.json").write_text(json.dumps({k: v for k, v in fields.items() if v is not None}))
    save_file({k: v for k, v in weights.items() if v is not None}, target / "sae_weights.safetensors")
    return target


@pytest.mark.parametrize("include_norms", [True, False])
@pytest.mark.parametrize("stale", [0.0, 50.0])
def test_formulas(tmp_path: Path, include_norms: bool, stale: float) -> None:
    """The threshold of the config is unused."""
    config = {"sparsity_include_decoder_norm": include_norms, "jump_relu_threshold": stale}
    sae = load_sae(edited(tmp_path / "sae", config))
    w = load_file(case(NAME)[1] / "sae_weights.safetensors")
    scale = 24**0.5 / 8.75
    p = (X * scale) @ w["encoder.weight"].T + w["encoder.bias"]
    n = w["decoder.weight"].norm(dim=0) if include_norms else torch.ones(72)
    f = torch.where(p * n > w["log_jumprelu_threshold"].exp(), p, 0.0)
    torch.testing.assert_close(sae.encode(X), f, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(sae(X), (f @ w["decoder.weight"].T + w["decoder.bias"]) / scale, atol=1e-3, rtol=1e-5)
    assert (sae.format, sae.architecture, sae.hook, sae.layer) == ("llamascope_r1", "jumprelu", "resid_post", 10)


def test_norms_are_unused_at_inference(tmp_path: Path) -> None:
    tensors: dict[str, Tensor | None] = {NORM: torch.tensor(torch.nan)}
    sae = load_sae(edited(tmp_path / "sae", {"norm_activation": "inference"}, tensors))
    assert torch.isfinite(sae(X)).all()


@pytest.mark.parametrize(
    ("config", "tensors", "fault"),
    [
        ({"act_fn": "topk"}, {}, "act_fn 'topk'; known are jumprelu"),
        ({"apply_decoder_bias_to_pre_encoder": True}, {}, "apply_decoder_bias_to_pre_encoder"),
        ({"expansion_factor": 2}, {}, "expansion_factor 2"),
        ({"sae_type": "crosscoder"}, {}, "sae_type 'crosscoder'"),
        ({}, {"log_jumprelu_threshold": None}, "no tensor log_jumprelu_threshold"),
        ({}, {NORM: None}, "no tensor dataset_average_activation_norm.blocks.10"),
        ({}, {NORM: torch.tensor(torch.nan)}, "NaN"),
        ({}, {"encoder.weight": torch.zeros(24, 72)}, "encoder.weight as .* transposed"),
        ({}, {"decoder.weight": torch.zeros(72, 24)}, "decoder.weight as .* transposed"),
        ({}, {"encoder_glu.bias": torch.zeros(72)}, "encoder_glu.bias"),
    ],
)
def test_refuses(tmp_path: Path, config: dict[str, Any], tensors: dict[str, Tensor | None], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*config\.json|.*sae_weights)(?=.*{fault})"):
        load_sae(edited(tmp_path / "sae", config, tensors))
