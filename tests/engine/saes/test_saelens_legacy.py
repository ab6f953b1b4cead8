"""SAELens before version 6: what its flat configs say, and leave unsaid."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae
from tests.engine.saes.cases import case, expected

V2, V5 = "saelens_legacy__standard__v2_hook_point", "saelens_legacy__topk__activation_fn_kwargs"


def edited(target: Path, name: str, **cfg: Any) -> Path:
    """A copy of a fixture with keys of cfg.json replaced; None removes one."""
    shutil.copytree(case(name)[1], target)
    config = json.loads((target / "cfg.json").read_text()) | cfg
    (target / "cfg.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    return target


def test_top_k_is_said_by_the_activation_function(tmp_path: Path) -> None:
    sae = load_sae(case(V5)[1])
    assert (sae.architecture, sae.k) == ("topk", 6)
    with pytest.raises(SAELoadError, match=r"cfg\.json has no k"):
        load_sae(edited(tmp_path / "a", V5, activation_fn_kwargs=None))
    assert load_sae(tmp_path / "a", k=3).k == 3


def test_k_twice(tmp_path: Path) -> None:
    path = edited(tmp_path / "a", V5, k=3)
    with pytest.raises(SAELoadError, match=r"cfg\.json has k 6 in activation_fn_kwargs and k 3: give k"):
        load_sae(path)
    assert load_sae(path, k=6).k == 6
    assert load_sae(edited(tmp_path / "b", V5, k=6)).k == 6


def test_a_config_of_version_6_that_says_no_version(tmp_path: Path) -> None:
    name, cfg = "saelens_v6__topk", {"rescale_acts_by_decoder_norm": True}
    old = load_sae(edited(tmp_path / "a", name, metadata=None, **cfg))
    x = expected(name)["x"]
    assert old.format == "saelens_legacy"
    torch.testing.assert_close(old.encode(x), load_sae(edited(tmp_path / "b", name, **cfg)).encode(x))
    assert not torch.allclose(old.encode(x), expected(name)["acts"], atol=1e-2)


@pytest.mark.parametrize("value", [True, "expected_average_only_in"])
def test_a_scale_that_lies_beside_the_weights(tmp_path: Path, value: object) -> None:
    path = edited(tmp_path / "a", V2, normalize_activations=value)
    (path / "activation_scaler.json").write_text('{"scaling_factor": 0.35}')
    with pytest.raises(SAELoadError, match=r"activation_scaler\.json has 'scaling_factor' 0\.35"):
        load_sae(path)


def test_one_head(tmp_path: Path) -> None:
    assert load_sae(case(V2)[1]).card()["notes"] == []
    for number, key in enumerate(("hook_head_index", "hook_point_head_index")):
        (note,) = load_sae(edited(tmp_path / f"a{number}", V2, **{key: 3})).source.notes
        assert note == f"Reads head 3 alone ({key}): no single head can be read here."
    metadata = {"hook_name": "blocks.9.attn.hook_q", "hook_head_index": 0}
    assert "head 0 alone" in load_sae(edited(tmp_path / "b", "saelens_v6__standard", metadata=metadata)).source.notes[0]


def test_tanh(tmp_path: Path) -> None:
    path = edited(tmp_path / "a", V2, activation_fn="tanh-relu")
    want = expected(V2)
    torch.testing.assert_close(load_sae(path).encode(want["x"]), want["acts"].tanh(), atol=1e-4, rtol=1e-5)


def test_both_generations_name_the_hook_point(tmp_path: Path) -> None:
    old = load_sae(case(V2)[1])
    assert (old.hook_name, old.hook, old.layer) == ("blocks.7.hook_resid_pre", "resid_pre", 7)
    assert load_sae(edited(tmp_path / "c", V2, hook_point_layer=3), layer=3).layer == 3
    moved = load_sae(edited(tmp_path / "a", V2, hook_point="blocks.{layer}.hook_resid_pre", hook_point_layer=3))
    assert (moved.hook, moved.layer) == (None, 3)
    with pytest.raises(SAELoadError, match=r"cfg\.json says .* layer -1"):
        load_sae(edited(tmp_path / "b", V2, hook_point_layer=-1))


@pytest.mark.parametrize("value", [True, "expected_average_only_in", "none"])
def test_a_scale_of_the_input_was_folded_when_it_was_saved(tmp_path: Path, value: object) -> None:
    sae = load_sae(edited(tmp_path / "a", V2, normalize_activations=value))
    torch.testing.assert_close(sae.encode(expected(V2)["x"]), expected(V2)["acts"], atol=1e-4, rtol=1e-5)


def test_layer_norm_is_applied(tmp_path: Path) -> None:
    sae = load_sae(edited(tmp_path / "a", V5, normalize_activations="layer_norm"))
    assert sae.card()["normalisation"] == "layer norm"
    assert not torch.allclose(sae.encode(expected(V5)["x"]), expected(V5)["acts"])


@pytest.mark.parametrize(
    ("cfg", "fault"),
    [
        ({"activation_fn": "gelu"}, "activation_fn 'gelu'"),
        ({"architecture": "transcoder"}, "architecture 'transcoder'"),
        ({"architecture": "jumprelu", "activation_fn": "topk"}, "jumprelu with activation_fn topk"),
        ({"architecture": "gated"}, "no tensor b_gate"),
        ({"normalize_activations": "whitening"}, "normalize_activations 'whitening'"),
        ({"d_sae": 64}, "says d_sae 64"),
        ({"d_in": None, "d_sae": None}, "neither d_in nor d_sae"),
        ({"activation_fn_str": "tanh-relu"}, "activation_fn_str 'tanh-relu' and activation_fn 'relu'"),
        ({"hook_point_layer": 3}, r"hook_point_layer 3 and names the hook 'blocks\.7\.hook_resid_pre': give layer"),
        ({"hook_point_head_index": "3"}, "hook_point_head_index '3', which is no whole number"),
    ],
)
def test_refuses_configs(tmp_path: Path, cfg: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=fault):
        load_sae(edited(tmp_path / "a", V2, **cfg))


def test_refuses_a_scaling_factor_that_is_announced_and_missing(tmp_path: Path) -> None:
    with pytest.raises(SAELoadError, match="holds no scaling_factor"):
        load_sae(edited(tmp_path / "a", V5, finetuning_scaling_factor=True))
    path = edited(tmp_path / "b", V5, finetuning_scaling_factor=True)
    weights = load_file(path / "sae_weights.safetensors")
    save_file(weights | {"scaling_factor": torch.ones(64)}, path / "sae_weights.safetensors")
    assert load_sae(path).k == 6
    save_file(weights | {"scaling_factor": torch.ones(1)}, path / "sae_weights.safetensors")
    with pytest.raises(SAELoadError, match=r"scaling_factor as \[1\] where \[64\] is needed"):
        load_sae(path)


def test_the_models_of_some_were_centred(tmp_path: Path) -> None:
    assert not load_sae(case(V2)[1]).centred
    assert load_sae(case(V2)[1], centred=True).centred
    assert load_sae(edited(tmp_path / "GPT2-Small-SAEs-Reformatted", V2)).centred
    kwargs = {"center_writing_weights": True}
    assert load_sae(edited(tmp_path / "a", V2, model_from_pretrained_kwargs=kwargs)).centred
    assert not load_sae(tmp_path / "a", centred=False).centred
