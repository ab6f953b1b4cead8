"""sparsify coders: built from random tensors, against the library's formulas written out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae

D, F, K = 6, 12, 3
CFG = {"activation": "topk", "expansion_factor": 2, "normalize_decoder": True, "num_latents": F, "k": K, "d_in": D}
CFG |= {"multi_topk": False, "skip_connection": False, "transcode": False}


def tensors(skip: bool = False) -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes = {"encoder.weight": (F, D), "encoder.bias": (F,), "W_dec": (F, D), "b_dec": (D,)}
    return {name: torch.randn(shape) for name, shape in (shapes | ({"W_skip": (D, D)} if skip else {})).items()}


def saved(folder: Path, cfg: dict[str, Any], weights: dict[str, Any] | None = None) -> Path:
    """A checkpoint with cfg keys and tensors replaced; None removes one."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {k: v for k, v in (CFG | cfg).items() if v is not None}
    (folder / "cfg.json").write_text(json.dumps(config))
    found = tensors(bool(config.get("skip_connection"))) | (weights or {})
    save_file({k: v for k, v in found.items() if v is not None}, folder / "sae.safetensors")
    return folder


def activations(cfg: dict[str, Any], p: Tensor) -> Tensor:
    if cfg.get("activation") == "groupmax":
        p = p.relu()
        wins = torch.cat([g == g.max(1, keepdim=True).values for g in p.split(F // K, dim=1)], dim=1)
        return p * wins
    if cfg.get("signed"):
        return p * (p.abs() >= p.abs().sort(descending=True).values[:, K - 1 : K])
    p = p.relu()
    return p * (p >= p.sort(descending=True).values[:, K - 1 : K])


@pytest.mark.parametrize("transcode", [False, True])
@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize(
    ("cfg", "architecture"),
    [
        ({"activation": "topk"}, "topk"),
        ({"activation": "groupmax"}, "groupmax"),
        ({"activation": None, "num_latents": 0}, "topk"),
        ({"activation": None, "skip_connection": None, "transcode": None, "signed": True}, "abstopk"),
    ],
)
def test_formulas(tmp_path: Path, cfg: dict[str, Any], architecture: str, skip: bool, transcode: bool) -> None:
    cfg = cfg | ({"skip_connection": True} if skip else {}) | ({"transcode": True} if transcode else {})
    sae = load_sae(saved(tmp_path / "layers.4", cfg))
    w, x = tensors(skip), torch.randn(20, D)
    acts = activations(cfg, (x if transcode else x - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"])
    recon = acts @ w["W_dec"] + w["b_dec"] + (x @ w["W_skip"].T if skip else 0)
    torch.testing.assert_close(sae.encode(x), acts)
    torch.testing.assert_close(sae(x), recon)
    kind = {(False, True): "_transcoder", (True, True): "_skip_transcoder"}.get((skip, transcode), "")
    assert (sae.architecture, sae.is_transcoder, sae.k) == (architecture + kind, transcode, K)
    assert sae.decode_needs_x == skip
    assert bool(sae.card()["notes"]) == (skip and not transcode)


@pytest.mark.parametrize(
    ("folder", "transcode", "site"),
    [
        ("layers.9", False, ("layers.9", "resid_post", 9, None, None)),
        ("layers.10.mlp", False, ("layers.10.mlp", "mlp.output", 10, None, None)),
        ("h.7.mlp", False, ("h.7.mlp", "mlp.output", 7, None, None)),
        ("embed_tokens", False, ("embed_tokens", "embeddings", 0, None, None)),
        ("layers.3.attention/seed1", False, ("layers.3.attention", "attention.output", 3, None, None)),
        ("download", False, (None, None, None, None, None)),
        ("download", True, (None, None, None, None, None)),
        ("layers.10.mlp", True, ("layers.10.mlp", "mlp.input", 10, "mlp.output", 10)),
        ("layers.9", True, ("layers.9", "resid_pre", 9, "resid_post", 9)),
    ],
)
def test_the_folder_names_the_hook(tmp_path: Path, folder: str, transcode: bool, site: tuple[object, ...]) -> None:
    sae = load_sae(saved(tmp_path / folder, {"transcode": transcode}))
    assert (sae.hook_name, sae.hook, sae.layer, sae.hook_out, sae.layer_out) == site


def test_overrides_win(tmp_path: Path) -> None:
    sae = load_sae(saved(tmp_path / "layers.9", {"k": None}), k=5, layer=2, hook="mlp_out", centred=True)
    assert (sae.k, sae.hook_point(), sae.hook_name, sae.centred) == (5, ("mlp_out", 2), "layers.9", True)


def test_half_precision(tmp_path: Path) -> None:
    half = {name: tensor.bfloat16() for name, tensor in tensors().items()}
    sae = load_sae(saved(tmp_path, {}, half))
    assert (sae.dtype_on_disk, sae.W_dec.dtype) == ("bfloat16", torch.float32)
    torch.testing.assert_close(sae.W_enc, half["encoder.weight"].T.float())


def test_digest_is_of_config_and_weights(tmp_path: Path) -> None:
    first = load_sae(saved(tmp_path / "a", {})).digest
    assert load_sae(saved(tmp_path / "b", {})).digest == first
    assert load_sae(saved(tmp_path / "c", {"k": 4})).digest != first
    assert load_sae(saved(tmp_path / "d", {}, {"b_dec": torch.zeros(D)})).digest != first


@pytest.mark.parametrize(
    ("cfg", "fault"),
    [
        ({"activation": "relu"}, r"cfg\.json has activation 'relu'; known are topk, groupmax"),
        ({"k": None}, r"cfg\.json has no k, .* give k"),
        ({"k": 13}, r"k is 13 for .*cfg\.json"),
        ({"k": 0}, "k is 0"),
        ({"k": True}, r"cfg\.json has k True, which is no whole number"),
        ({"activation": "groupmax", "k": 5}, r"cfg\.json has k 5 for groupmax"),
        ({"activation": "groupmax", "signed": True}, r"cfg\.json sets signed"),
        ({"num_latents": 24}, "num_latents 24"),
        ({"num_latents": 0, "expansion_factor": 3}, r"cfg\.json says expansion_factor 3"),
        ({"d_in": 7}, "d_in 7"),
        ({"transcode": "yes"}, "transcode 'yes'"),
        ({"gram_lookup": True}, r"cfg\.json sets 'gram_lookup', an option that is not known"),
    ],
)
def test_refuses_configs(tmp_path: Path, cfg: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=fault):
        load_sae(saved(tmp_path, cfg))


@pytest.mark.parametrize(
    ("weights", "fault"),
    [
        ({"W_dec": None}, "holds no W_dec, only an encoder"),
        ({"W_dec": torch.zeros(D, F)}, "W_dec as .* transposed"),
        ({"W_skip": torch.zeros(D, D)}, r"cfg\.json does not set skip_connection, but .* holds W_skip"),
        ({"b_dec": None}, "no tensor b_dec"),
        ({"encoder.scale": torch.ones(1)}, "'encoder.scale', which its format does not have"),
        ({"b_dec": torch.full((D,), torch.nan)}, "b_dec .* NaN"),
    ],
)
def test_refuses_tensors(tmp_path: Path, weights: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*sae\.safetensors)(?=.*{fault})"):
        load_sae(saved(tmp_path, {}, weights))


def test_refuses_what_is_not_whole(tmp_path: Path) -> None:
    with pytest.raises(SAELoadError, match=r"cfg\.json sets skip_connection, but .* has no W_skip"):
        load_sae(saved(tmp_path, {"skip_connection": True}, {"W_skip": None}))
    (tmp_path / "cfg.json").unlink()
    with pytest.raises(SAELoadError, match=r"cfg\.json is missing"):
        load_sae(tmp_path)
