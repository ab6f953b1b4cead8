"""Gemma Scope 2: built from random tensors, against the formula written out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae
from tests.engine.saes.cases import case

D, F = 6, 12
SAE = {"architecture": "jump_relu", "type": "sae", "width": F, "l0": 8, "affine_connection": False}
SAE |= {"hf_hook_point_in": "model.layers.17.output", "hf_hook_point_out": "model.layers.17.output"}
SAE |= {"model_name": "google/gemma-3-4b-pt"}
TRANSCODER = SAE | {
    "type": "transcoder",
    "hf_hook_point_in": "model.layers.9.pre_feedforward_layernorm.output",
    "hf_hook_point_out": "model.layers.9.post_feedforward_layernorm.output",
}
AFFINE = TRANSCODER | {"affine_connection": True}


def tensors(d_out: int = D, affine: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes = {"w_enc": (D, F), "w_dec": (F, d_out), "b_enc": (F,), "b_dec": (d_out,), "threshold": (F,)}
    shapes |= {"affine_skip_connection": (D, d_out)} if affine else {}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def saved(folder: Path, config: dict[str, Any], found: dict[str, Any]) -> Path:
    """None removes a key or a tensor."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    save_file({k: v for k, v in found.items() if v is not None}, folder / "params.safetensors")
    return folder


@pytest.mark.parametrize(
    ("config", "d_out", "architecture"),
    [
        (SAE, D, "jumprelu"),
        (TRANSCODER, D, "jumprelu_transcoder"),
        (AFFINE, D, "jumprelu_skip_transcoder"),
        (AFFINE, 4, "jumprelu_skip_transcoder"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_formula(tmp_path: Path, config: dict[str, Any], d_out: int, architecture: str, dtype: torch.dtype) -> None:
    found = {n: t.to(dtype) for n, t in tensors(d_out, bool(config["affine_connection"])).items()}
    sae = load_sae(saved(tmp_path, config, found))
    w, x = {n: t.float() for n, t in found.items()}, torch.randn(20, D)
    p = x @ w["w_enc"] + w["b_enc"]
    acts = p.relu() * (p > w["threshold"])
    recon = acts @ w["w_dec"] + w["b_dec"]
    if config["affine_connection"]:
        recon = recon + x @ w["affine_skip_connection"]
    torch.testing.assert_close(sae.encode(x), acts)
    torch.testing.assert_close(sae(x), recon)
    assert (sae.architecture, sae.is_transcoder, sae.d_out) == (architecture, config["type"] == "transcoder", d_out)
    assert sae.dtype_on_disk == str(dtype).removeprefix("torch.")


def test_threshold_equal_to_the_pre_activation_does_not_fire() -> None:
    acts = load_sae(case("gemma_scope_2__jumprelu")[1]).encode(torch.zeros(1, 24))
    assert (acts[0, :2] > 0).tolist() == [False, False]


def test_what_the_config_says(tmp_path: Path) -> None:
    sae = load_sae(saved(tmp_path, TRANSCODER, tensors()))
    assert (sae.hook, sae.layer) == ("pre_feedforward_layernorm.output", 9)
    assert (sae.hook_out, sae.layer_out) == ("post_feedforward_layernorm.output", 9)
    assert (sae.reported_l0, sae.model_name) == (8.0, "google/gemma-3-4b-pt")
    assert sae.card()["variant"] == "jump_relu"


@pytest.mark.parametrize(
    ("l0", "reported"), [(8.5, 8.5), ("medium", None), (True, None), (10**400, None), (None, None)]
)
def test_l0_if_it_is_a_number(tmp_path: Path, l0: object, reported: float | None) -> None:
    assert load_sae(saved(tmp_path, SAE | {"l0": l0}, tensors())).reported_l0 == reported


def test_where_it_reads(tmp_path: Path) -> None:
    path = saved(tmp_path / "layer_3_width_16k_l0_small", SAE, tensors())
    assert load_sae(path).hook_point() == ("resid_post", 17)
    assert load_sae(path, hook="z", layer=2).hook_point() == ("z", 2)
    silent = SAE | {"hf_hook_point_in": None, "hf_hook_point_out": None}
    sae = load_sae(saved(path, silent, tensors()))
    assert (sae.hook_name, sae.hook, sae.layer) == (None, None, 3)
    heads = SAE | {"hf_hook_point_in": "model.layers.2.self_attn.o_proj.input", "hf_hook_point_out": None}
    assert load_sae(saved(path, heads, tensors())).hook_point() == ("self_attn.o_proj.input", 2)


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        (SAE | {"type": "clt"}, r"config\.json has type 'clt'"),
        (SAE | {"type": "crosscoder"}, r"config\.json has type 'crosscoder'"),
        (SAE | {"type": None}, "no type; known are sae"),
        (SAE | {"architecture": "topk"}, "architecture 'topk'"),
        (SAE | {"width": 16384}, "width 16384"),
        (SAE | {"affine_connection": True}, r"config\.json sets affine_connection, but .*params\.safetensors has no"),
        (SAE | {"hf_hook_point_out": "model.layers.18.output"}, r"config\.json says type 'sae', but reads"),
        (SAE | {"hf_hook_point_in": "x\0"}, "hf_hook_point_in"),
    ],
)
def test_refuses_configs(tmp_path: Path, config: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=fault):
        load_sae(saved(tmp_path, config, tensors()))


@pytest.mark.parametrize(
    ("replaced", "fault"),
    [
        ({"w_dec": torch.zeros(F, 3, D)}, "w_dec as"),
        ({"w_enc": torch.zeros(F, D)}, "w_enc as .* transposed"),
        ({"threshold": None}, "no tensor threshold"),
        ({"W_skip": torch.zeros(D, D)}, "'W_skip', which its format does not have"),
        ({"affine_skip_connection": torch.zeros(D, D)}, "does not set affine_connection, but"),
        ({"w_dec": torch.full((F, D), torch.nan)}, "w_dec .* NaN"),
        ({"w_dec": torch.zeros(F, 4), "b_dec": torch.zeros(4)}, "holds a transcoder"),
    ],
)
def test_refuses_tensors(tmp_path: Path, replaced: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*params\.safetensors)(?=.*{fault})"):
        load_sae(saved(tmp_path, SAE, tensors() | replaced))


def test_refuses_k_and_a_missing_config(tmp_path: Path) -> None:
    path = saved(tmp_path, SAE, tensors())
    with pytest.raises(SAELoadError, match="jumprelu has no k"):
        load_sae(path, k=3)
    (path / "config.json").unlink()
    with pytest.raises(SAELoadError, match=r"config\.json is missing"):
        load_sae(path)
