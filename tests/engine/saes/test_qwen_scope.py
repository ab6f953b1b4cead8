"""Qwen-Scope: k from the name of a folder, nothing behind the top k."""

from pathlib import Path
from typing import Any

import pytest
import torch

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae
from tests.engine.saes.cases import case

X = torch.randn(30, 24, generator=torch.Generator().manual_seed(1)) * 5


def stored() -> dict[str, Any]:
    values: dict[str, Any] = torch.load(case("qwen_scope__topk")[1], weights_only=True)
    return values


def edited(folder: Path, changes: dict[str, Any] | None = None, name: str = "layer5.sae.pt") -> Path:
    """A copy of the fixture with tensors replaced; None removes one."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({k: v for k, v in (stored() | (changes or {})).items() if v is not None}, folder / name)
    return folder / name


def test_the_top_k_stay_as_they_are(tmp_path: Path) -> None:
    sae = load_sae(edited(tmp_path / "SAE-Res-Qwen3-8B-Base-W64K-L0_50"))
    w = stored()
    p = X @ w["W_enc"].T + w["b_enc"]
    f = torch.where(p >= p.sort(descending=True).values[:, 49:50], p, 0.0)
    assert (f < 0).any()
    torch.testing.assert_close(sae.encode(X), f, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(sae(X), f @ w["W_dec"].T + w["b_dec"], atol=1e-3, rtol=1e-5)
    assert (sae.format, sae.architecture, sae.k, sae.hook_point()) == ("qwen_scope", "topk", 50, ("resid_post", 5))
    assert sae.pre_bias is None


@pytest.mark.parametrize(
    ("folders", "k"),
    [
        ("SAE-Res-Qwen3-1.7B-Base-W32K-L0_6", 6),
        ("SAE-Res-L0_6/SAE-Res-L0_7", 7),
        ("SAE-Res-L0_6/copies/today", 6),
        ("models--Qwen--SAE-Res-Qwen3-1.7B-Base-W32K-L0_8/snapshots/0123abcd", 8),
        ("L0_9", 9),
    ],
)
def test_k_is_the_nearest_on_the_path(tmp_path: Path, folders: str, k: int) -> None:
    file = edited(tmp_path / folders, name="layer17.sae.pt")
    assert (load_sae(file).k, load_sae(file).layer, load_sae(file.parent).k) == (k, 17, k)
    assert load_sae(file, k=2, layer=3, hook="mlp_out").hook_point() == ("mlp_out", 3)
    assert load_sae(file, k=2).k == 2


def test_which_of_several_layers(tmp_path: Path) -> None:
    for layer in (0, 1):
        edited(tmp_path / "SAE-L0_6", name=f"layer{layer}.sae.pt")
    with pytest.raises(SAELoadError, match=r"'layer0\.sae\.pt, layer1\.sae\.pt': name one of them"):
        load_sae(tmp_path / "SAE-L0_6")


@pytest.mark.parametrize(
    ("folder", "changes", "fault"),
    [
        ("SAE-L0_6-copy", {}, "give k"),
        ("SAE-L0_", {}, "give k"),
        ("SAE-AL0_6", {}, "give k"),
        ("SAE-L0_65", {}, "k is 65"),
        ("SAE-L0_0", {}, "k is 0"),
        ("SAE-L0_6", {"W_enc": stored()["W_enc"].T.contiguous()}, "W_enc as .* transposed"),
        ("SAE-L0_6", {"W_dec": stored()["W_dec"].T.contiguous()}, "W_dec as .* transposed"),
        ("SAE-L0_6", {"threshold": torch.zeros(64)}, "'threshold'"),
        ("SAE-L0_6", {"k": 6}, "'k'"),
        ("SAE-L0_6", {"b_dec": None}, "no tensor b_dec"),
        ("SAE-L0_6", {"W_enc": torch.full((64, 24), torch.nan)}, "W_enc .* NaN"),
    ],
)
def test_refuses(tmp_path: Path, folder: str, changes: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*layer5\.sae\.pt)(?=.*{fault})"):
        load_sae(edited(tmp_path / folder, changes))


def test_other_files_with_the_same_tensors_are_not_taken_for_it(tmp_path: Path) -> None:
    with pytest.raises(SAELoadError, match="no SAE checkpoint"):
        load_sae(edited(tmp_path, name="sae.pt"), k=6)
