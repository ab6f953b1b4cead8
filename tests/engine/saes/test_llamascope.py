"""Llama Scope of 2024: variants that no fixture has, by the formulas of its library."""

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

NAME = "llamascope__jumprelu"
X = torch.randn(30, 24, generator=torch.Generator().manual_seed(1)) * 5


def edited(
    target: Path, config: dict[str, Any] | None = None, tensors: dict[str, Tensor | None] | None = None, drop: str = ""
) -> Path:
    """A copy of the fixture with fields of the config and tensors replaced; ``drop`` and None remove one."""
    _, path = case(NAME)
    fields = json.loads((path / "hyperparams.json").read_text()) | (config or {})
    weights = load_file(path / "checkpoints" / "final.safetensors") | (tensors or {})
    (target / "checkpoints").mkdir(parents=True)
    (target / "hyperparams.json").write_text(json.dumps({k: v for k, v in fields.items() if k != drop}))
    save_file({k: v for k, v in weights.items() if v is not None}, target / "checkpoints" / "final.safetensors")
    return target


def scaled(norm_in: float, norm_out: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """We [F, d], be, Wd [d, F], bd in raw units."""
    w = load_file(case(NAME)[1] / "checkpoints" / "final.safetensors")
    scale_in, scale_out = 24**0.5 / norm_in, 24**0.5 / norm_out
    return (
        w["encoder.weight"],
        w["encoder.bias"] / scale_in,
        w["decoder.weight"] * scale_in / scale_out,
        w["decoder.bias"] / scale_out,
    )


def keep_top(p: Tensor, k: int) -> Tensor:
    return torch.where(p >= p.sort(descending=True).values[:, k - 1 : k], p, 0.0).relu()


@pytest.mark.parametrize("include_norms", [True, False])
@pytest.mark.parametrize("act_fn", ["jumprelu", "topk", "relu"])
@pytest.mark.parametrize("take_bias_off", [None, True, False])
def test_formulas(tmp_path: Path, act_fn: str, include_norms: bool, take_bias_off: bool | None) -> None:
    config = {
        "act_fn": act_fn,
        "top_k": 5,
        "jump_relu_threshold": 0.7,
        "sparsity_include_decoder_norm": include_norms,
        "apply_decoder_bias_to_pre_encoder": take_bias_off,
        "dataset_average_activation_norm": {"in": 3.5, "out": 9},
    }
    drop = "apply_decoder_bias_to_pre_encoder" if take_bias_off is None else ""
    sae = load_sae(edited(tmp_path / "sae", config, drop=drop))
    We, be, Wd, bd = scaled(3.5, 9)
    n = Wd.norm(dim=0) if include_norms else torch.ones(72)
    x = X - bd if take_bias_off in (None, True) else X
    p = x @ (We * n[:, None]).T + be * n
    f = {"jumprelu": torch.where(p > 0.7, p, 0.0), "topk": keep_top(p, 5), "relu": p.relu()}[act_fn]
    torch.testing.assert_close(sae.encode(X), f, atol=1e-3, rtol=1e-5)
    torch.testing.assert_close(sae(X), f @ (Wd / n).T + bd, atol=1e-3, rtol=1e-5)
    assert (sae.architecture, sae.source.variant) == ("standard" if act_fn == "relu" else act_fn, act_fn)
    assert sae.k == (5 if act_fn == "topk" else None)
    assert (sae.pre_bias is not None) == (take_bias_off is not False)


def test_without_a_decoder_bias(tmp_path: Path) -> None:
    config = {"use_decoder_bias": False, "apply_decoder_bias_to_pre_encoder": True}
    sae = load_sae(edited(tmp_path / "sae", config, {"decoder.bias": None}))
    assert sae.pre_bias is None
    assert (sae.b_dec == 0).all()


def test_weights_that_were_folded_already(tmp_path: Path) -> None:
    config = {"norm_activation": "inference", "dataset_average_activation_norm": None}
    sae = load_sae(edited(tmp_path / "sae", config | {"sparsity_include_decoder_norm": False}))
    w = load_file(case(NAME)[1] / "checkpoints" / "final.safetensors")
    p = X @ w["encoder.weight"].T + w["encoder.bias"]
    torch.testing.assert_close(sae.encode(X), torch.where(p > 1.35546875, p, 0.0), atol=1e-4, rtol=1e-5)
    assert sae.source.normalisation is None


def test_an_expansion_factor_with_a_fraction(tmp_path: Path) -> None:
    """The library takes the whole part of d_model times it."""
    assert load_sae(edited(tmp_path / "sae", {"expansion_factor": 3.04})).d_sae == 72


def test_a_decoder_row_of_zeros_never_fires(tmp_path: Path) -> None:
    weight = load_file(case(NAME)[1] / "checkpoints" / "final.safetensors")["decoder.weight"]
    weight[:, 3] = 0
    sae = load_sae(edited(tmp_path / "sae", {"jump_relu_threshold": 0.0}, {"decoder.weight": weight}))
    assert torch.isfinite(sae(X)).all()
    assert (sae.encode(X)[:, 3] == 0).all()


def test_a_transcoder_and_its_model(tmp_path: Path) -> None:
    hooks = {"hook_point_in": "blocks.7.ln2.hook_normalized", "hook_point_out": "blocks.7.hook_mlp_out"}
    path = edited(tmp_path / "sae", hooks)
    (path / "lm_config.json").write_text('{"model_name": "meta-llama/Llama-3.1-8B"}')
    sae = load_sae(path)
    assert (sae.architecture, sae.is_transcoder) == ("jumprelu_transcoder", True)
    assert (sae.hook, sae.layer, sae.hook_out, sae.layer_out) == ("mlp_in_normalized", 7, "mlp_out", 7)
    assert sae.model_name == "meta-llama/Llama-3.1-8B"
    assert sae.source.normalisation == "dataset-wise, folded into the weights"


def test_overrides(tmp_path: Path) -> None:
    sae = load_sae(edited(tmp_path / "a", {"act_fn": "topk"}), k=3, layer=2, hook="mlp_out", centred=True)
    assert (sae.k, sae.hook_point(), sae.centred) == (3, ("mlp_out", 2), True)
    with pytest.raises(SAELoadError, match=r"hyperparams\.json.* jumprelu has no k"):
        load_sae(edited(tmp_path / "b"), k=3)


def test_digest_follows_config_and_weights(tmp_path: Path) -> None:
    first = load_sae(edited(tmp_path / "a")).digest
    assert load_sae(edited(tmp_path / "b")).digest == first
    assert load_sae(edited(tmp_path / "c", {"jump_relu_threshold": 1.0})).digest != first
    assert load_sae(edited(tmp_path / "d", tensors={"decoder.bias": torch.zeros(24)})).digest != first


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"act_fn": "batchtopk"}, "act_fn 'batchtopk'"),
        ({"act_fn": None}, "no act_fn; known are"),
        ({"use_glu_encoder": True}, "use_glu_encoder"),
        ({"norm_activation": "token-wise"}, "norm_activation 'token-wise'"),
        ({"norm_activation": "batch-wise"}, "norm_activation 'batch-wise'"),
        ({"norm_activation": None}, "no norm_activation; known are"),
        ({"dataset_average_activation_norm": None}, "no dataset_average_activation_norm in"),
        ({"dataset_average_activation_norm": {"in": 3.0}}, "no dataset_average_activation_norm out"),
        ({"dataset_average_activation_norm": {"in": 3.0, "out": 0}}, "out in .* is 0, which no norm"),
        ({"dataset_average_activation_norm": {"in": -3.0, "out": 1.0}}, "is -3, which no norm"),
        ({"dataset_average_activation_norm": {"in": float("nan"), "out": 1.0}}, "in nan, which is no finite number"),
        ({"dataset_average_activation_norm": {"in": 1e-300, "out": 1.0}}, "scaled by .* NaN or infinite"),
        ({"jump_relu_threshold": None}, "no jump_relu_threshold"),
        ({"jump_relu_threshold": -1}, "jump_relu_threshold -1, which lets negative features through"),
        ({"jump_relu_threshold": 1e39}, r"jump_relu_threshold 1e\+39, which is too large"),
        ({"jump_relu_threshold": 10**39}, r"jump_relu_threshold 1e\+39, which is too large"),
        ({"expansion_factor": 4}, "expansion_factor 4, but the weights make 72 features of 24 inputs"),
        ({"expansion_factor": 2.99}, "expansion_factor 2.99"),
        ({"act_fn": "topk", "top_k": None}, "no k"),
        ({"act_fn": "topk", "top_k": 73}, "k is 73"),
        ({"act_fn": "topk", "top_k": 5.0}, "top_k 5.0"),
        ({"d_sae": 64}, "says d_sae 64"),
        ({"d_model": 72}, "says d_model 72"),
        ({"use_decoder_bias": False}, "use_decoder_bias False, but .* holds decoder.bias"),
        ({"apply_decoder_bias_to_pre_encoder": "no"}, "apply_decoder_bias_to_pre_encoder"),
        ({"hook_point_in": None}, "no hook_point_in"),
        ({"hook_point_out": "a\nb"}, "hook_point_out"),
    ],
)
def test_refuses_configs(tmp_path: Path, config: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*hyperparams\.json|.*final\.safetensors)(?=.*{fault})") as refusal:
        load_sae(edited(tmp_path / "sae", config))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({"decoder.bias": None}, "use_decoder_bias True, but .* does not hold decoder.bias"),
        ({"encoder.weight": torch.zeros(24, 72)}, "encoder.weight as .* transposed"),
        ({"decoder.weight": torch.zeros(24, 71)}, "decoder.weight as .* do not belong together"),
        ({"encoder_glu.weight": torch.zeros(72, 24)}, "encoder_glu.weight"),
        ({"encoder.bias": torch.full((72,), torch.nan)}, "encoder.bias .* NaN"),
    ],
)
def test_refuses_tensors(tmp_path: Path, tensors: dict[str, Tensor | None], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*final\.safetensors)(?=.*{fault})"):
        load_sae(edited(tmp_path / "sae", tensors=tensors))


def test_refuses_a_folder_without_weights(tmp_path: Path) -> None:
    path = edited(tmp_path / "sae")
    (path / "checkpoints" / "final.safetensors").unlink()
    with pytest.raises(SAELoadError, match=r"final\.safetensors is missing"):
        load_sae(path)
