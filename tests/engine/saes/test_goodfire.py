"""Goodfire's files: built from random tensors, against the model card's formula written out."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae

D, F = 6, 12


def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    shapes: dict[str, tuple[int, ...]] = {"encoder_linear.weight": (F, D), "encoder_linear.bias": (F,)}
    shapes |= {"decoder_linear.weight": (D, F), "decoder_linear.bias": (D,)}
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def saved(file: Path, replaced: dict[str, Any] | None = None) -> Path:
    """None removes a tensor."""
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save({k: v for k, v in (tensors() | (replaced or {})).items() if v is not None}, file)
    return file


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_formula(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = {name: tensor.to(dtype) for name, tensor in tensors().items()}
    sae = load_sae(saved(tmp_path / "a-l3.pth", stored))
    w, x = {name: tensor.float() for name, tensor in stored.items()}, torch.randn(20, D)
    acts = (x @ w["encoder_linear.weight"].T + w["encoder_linear.bias"]).relu()
    torch.testing.assert_close(sae.encode(x), acts)
    torch.testing.assert_close(sae(x), acts @ w["decoder_linear.weight"].T + w["decoder_linear.bias"])
    assert (sae.architecture, sae.k, sae.is_transcoder) == ("standard", None, False)
    assert sae.dtype_on_disk == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("Llama-3.1-8B-Instruct-SAE-l19.pth", 19),
        ("Llama-3.3-70B-Instruct-SAE-l50.pt", 50),
        ("Llama-3.1-8B-Instruct-SAE-l19/sae.pth", 19),
        ("a-l2/Llama-SAE-l7.pth", 7),
        ("a-l2/b/sae.pth", None),
        ("sae-l2x.pth", None),
        ("sae-large.pth", None),
    ],
)
def test_the_name_says_the_layer(tmp_path: Path, name: str, layer: int | None) -> None:
    sae = load_sae(saved(tmp_path / name))
    assert (sae.hook, sae.layer, sae.hook_name) == ("resid_post", layer, None)
    assert "names no hook" in sae.source.notes[0]


def test_overrides_win_and_a_folder_will_do(tmp_path: Path) -> None:
    path = saved(tmp_path / "a-l3.pth").parent
    sae = load_sae(path, hook="mlp_out", layer=5)
    assert (sae.hook_point(), sae.source.notes) == (("mlp_out", 5), ())
    with pytest.raises(SAELoadError, match=r"a-l3\.pth.* standard has no k"):
        load_sae(path, k=3)


@pytest.mark.parametrize(
    ("replaced", "fault"),
    [
        ({"decoder_linear.bias": None}, "no tensor decoder_linear.bias"),
        ({"encoder_linear.weight": torch.zeros(D, F)}, "encoder_linear.weight as .* transposed"),
        ({"decoder_linear.weight": torch.zeros(F, D)}, "decoder_linear.weight as .* transposed"),
        ({"threshold": torch.zeros(F)}, "'threshold', which its format does not have"),
        ({"step": 3}, "'step', which its format does not have"),
        ({"encoder_linear.bias": torch.full((F,), torch.nan)}, "encoder_linear.bias .* NaN"),
    ],
)
def test_refuses_tensors(tmp_path: Path, replaced: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*a-l3\.pth)(?=.*{fault})"):
        load_sae(saved(tmp_path / "a-l3.pth", replaced))
