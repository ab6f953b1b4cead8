"""OpenAI's .pt files: activations by name, hooks and layers by path."""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae
from tests.engine.saes.cases import case

X = torch.randn(30, 24, generator=torch.Generator().manual_seed(1)) * 5
STATE = "activation_state_dict"


def stored(name: str = "openai__topk") -> dict[str, Any]:
    values: dict[str, Any] = torch.load(case(name)[1], weights_only=True)
    return values


def edited(target: Path, changes: dict[str, Any] | None = None, name: str = "8.pt") -> Path:
    """A copy of the TopK fixture with values replaced; None removes one."""
    target.mkdir(parents=True, exist_ok=True)
    torch.save({k: v for k, v in (stored() | (changes or {})).items() if v is not None}, target / name)
    return target / name


def layer_norm(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    mean, std = x.mean(-1, keepdim=True), x.std(-1, keepdim=True)
    return (x - mean) / (std + 1e-5), mean, std


@pytest.mark.parametrize("postact", ["ReLU", "Identity"])
def test_top_k(tmp_path: Path, postact: str) -> None:
    """With k so large that negative pre-activations are among the largest."""
    sae = load_sae(edited(tmp_path, {STATE: OrderedDict(k=50, postact_fn=postact)}))
    w = stored()
    h, mean, std = layer_norm(X)
    p = (h - w["pre_bias"]) @ w["encoder.weight"].T + w["latent_bias"]
    f = torch.where(p >= p.sort(descending=True).values[:, 49:50], p, 0.0)
    f = f.relu() if postact == "ReLU" else f
    assert (f < 0).any() == (postact == "Identity")
    torch.testing.assert_close(sae.encode(X), f, atol=1e-4, rtol=1e-5)
    want = (f @ w["decoder.weight"].T + w["pre_bias"]) * std + mean
    torch.testing.assert_close(sae(X), want, atol=1e-3, rtol=1e-5)
    assert (sae.k, sae.architecture, sae.source.variant, len(sae.source.notes)) == (
        *(50, "topk", "TopK"),
        int(postact == "Identity"),
    )


def test_without_activation_keys_it_is_relu_without_a_norm(tmp_path: Path) -> None:
    sae = load_sae(edited(tmp_path, {"activation": None, STATE: None}))
    w = stored()
    f = ((X - w["pre_bias"]) @ w["encoder.weight"].T + w["latent_bias"]).relu()
    torch.testing.assert_close(sae.encode(X), f, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(sae(X), f @ w["decoder.weight"].T + w["pre_bias"], atol=1e-3, rtol=1e-5)
    assert (sae.k, sae.architecture, sae.source.variant) == (None, "standard", "ReLU")


@pytest.mark.parametrize("state", [OrderedDict(k=6, postact_fn="ReLU"), None, OrderedDict()])
def test_stray_keys_of_the_library(tmp_path: Path, state: Any) -> None:
    sae = load_sae(edited(tmp_path, {"activation.k": 6, "activation.postact_fn": "ReLU", STATE: state}))
    torch.testing.assert_close(sae(X), load_sae(case("openai__topk")[1])(X))


def test_statistics_are_not_looked_at(tmp_path: Path) -> None:
    load_sae(edited(tmp_path, {"latents_mean_square": torch.full((64,), torch.nan), "stats_last_nonzero": None}))


@pytest.mark.parametrize(
    ("path", "hook", "layer"),
    [
        ("resid_post_mlp_v5_32k/autoencoders/8.pt", "resid_post", 8),
        ("resid_post_attn_v5_128k/autoencoders/0.pt", "resid_mid", 0),
        ("resid_delta_mlp_v4/autoencoders/11.pt", "mlp_out", 11),
        ("resid_delta_attn_v5_32k/3.pt", "attn_out", 3),
        ("mlp_post_act/autoencoders/7.pt", "mlp_act", 7),
        ("my_mlp_post_act/best.pt", None, None),
    ],
)
def test_the_path_says_where(tmp_path: Path, path: str, hook: str | None, layer: int | None) -> None:
    file = edited((tmp_path / path).parent, name=Path(path).name)
    sae = load_sae(file)
    assert (sae.hook, sae.layer) == (hook, layer)
    assert sae.hook_name == (Path(path).parts[0] if hook else None)
    assert load_sae(file.parent, layer=1, hook="resid_pre").hook_point() == ("resid_pre", 1)


def test_overrides(tmp_path: Path) -> None:
    assert load_sae(edited(tmp_path), k=3).k == 3
    with pytest.raises(SAELoadError, match=r"5\.pt.* ReLU has no k"):
        load_sae(case("openai__relu")[1], k=3)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"activation": "Identity"}, "activation 'Identity'; known are ReLU, TopK"),
        ({"activation": "JumpReLU"}, "activation 'JumpReLU'"),
        ({"activation": 5}, "activation 5"),
        ({"activation": torch.ones(1)}, "activation as a tensor"),
        ({"activation": None}, "activation ReLU, but 'k'"),
        ({"activation": None, STATE: None, "activation.k": 6}, "activation ReLU, but 'k'"),
        ({STATE: None}, "give k"),
        ({STATE: {"k": 6}}, "no postact_fn; known are"),
        ({STATE: {"k": 6, "postact_fn": "GELU"}}, "postact_fn 'GELU'"),
        ({STATE: {"k": 6, "postact_fn": "ReLU", "scale": 2}}, "'scale'"),
        ({STATE: {"k": 65, "postact_fn": "ReLU"}}, "k is 65"),
        ({STATE: {"k": 0, "postact_fn": "ReLU"}}, "k is 0"),
        ({STATE: {"k": 6.0, "postact_fn": "ReLU"}}, "k 6.0"),
        ({STATE: {"k": torch.tensor(6), "postact_fn": "ReLU"}}, "k a Tensor"),
        ({STATE: {"k": 2**2000, "postact_fn": "ReLU"}}, "k is a number of 2001 bits"),
        ({STATE: [6]}, r"activation_state_dict \[6\], which is no dict"),
        ({STATE: torch.ones(1)}, "activation_state_dict as a tensor"),
        ({"activation.k": 7}, "activation.k 7, but 6"),
        ({"activation.postact_fn": "Identity"}, "activation.postact_fn 'Identity', but 'ReLU'"),
        ({"pre_bias": None, "bias": torch.zeros(24)}, "no SAE checkpoint"),
        ({"threshold": torch.zeros(64)}, "'threshold'"),
        ({"decoder.weight": None, "decoder.linear.weight": torch.zeros(24, 64)}, "no tensor decoder.weight"),
        ({"encoder.weight": torch.zeros(24, 64)}, "encoder.weight as .* transposed"),
        ({"latent_bias": torch.full((64,), torch.inf)}, "latent_bias .* infinite"),
        ({"pre_bias": 5}, "no tensor pre_bias"),
    ],
)
def test_refuses(tmp_path: Path, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*8\.pt)(?=.*{fault})") as refusal:
        load_sae(edited(tmp_path, changes))
    assert "\n" not in str(refusal.value)
