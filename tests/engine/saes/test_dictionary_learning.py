"""dictionary_learning: all its classes from random tensors, against the library's formulas written out."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae
from tests.engine.saes.cases import case

D, F, K = 6, 12, 3
LINEAR: dict[str, tuple[int, ...]] = {"encoder.weight": (F, D), "decoder.weight": (D, F)}
PLAIN: dict[str, tuple[int, ...]] = {"W_enc": (D, F), "W_dec": (F, D), "b_enc": (F,), "b_dec": (D,)}
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "AutoEncoder": LINEAR | {"encoder.bias": (F,), "bias": (D,)},
    "AutoEncoderNew": LINEAR | {"encoder.bias": (F,), "decoder.bias": (D,)},
    "GatedAutoEncoder": LINEAR | {"decoder_bias": (D,), "r_mag": (F,), "gate_bias": (F,), "mag_bias": (F,)},
    "AutoEncoderTopK": LINEAR | {"encoder.bias": (F,), "b_dec": (D,)},
    "BatchTopKSAE": LINEAR | {"encoder.bias": (F,), "b_dec": (D,)},
    "MatryoshkaBatchTopKSAE": PLAIN,
    "JumpReluAutoEncoder": PLAIN | {"threshold": (F,)},
}
ARCHITECTURES = {
    "AutoEncoder": "standard",
    "AutoEncoderNew": "standard",
    "GatedAutoEncoder": "gated",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batchtopk",
    "MatryoshkaBatchTopKSAE": "matryoshka_batchtopk",
    "JumpReluAutoEncoder": "jumprelu",
}


def tensors(dict_class: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    found = {name: torch.randn(shape) for name, shape in SHAPES[dict_class].items()}
    if "TopK" in dict_class:
        found |= {"k": torch.tensor(K, dtype=torch.int32), "threshold": torch.tensor(0.4)}
    if dict_class == "MatryoshkaBatchTopKSAE":
        found["group_sizes"] = torch.tensor([4, 8])
    return found


def saved(
    folder: Path, dict_class: str, trainer: dict[str, Any] | None = None, replaced: dict[str, Any] | None = None
) -> Path:
    """A checkpoint with keys of the trainer and tensors replaced; None removes one. ``buffer`` stands beside it."""
    config: dict[str, Any] = {"dict_class": dict_class, "activation_dim": D, "dict_size": F, "layer": 8}
    config |= {"lm_name": "EleutherAI/pythia-70m-deduped", "submodule_name": "resid_post_layer_8"}
    config |= ({"k": K} if "TopK" in dict_class else {}) | (trainer or {})
    buffer = config.pop("buffer", {"io": "out"})
    folder.mkdir(parents=True, exist_ok=True)
    whole = {"trainer": {k: v for k, v in config.items() if v is not None}, "buffer": buffer}
    (folder / "config.json").write_text(json.dumps(whole))
    found = tensors(dict_class) | (replaced or {})
    torch.save({k: v for k, v in found.items() if v is not None}, folder / "ae.pt")
    return folder


def formula(dict_class: str, w: dict[str, Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """(activations, reconstruction)."""
    if dict_class in ("MatryoshkaBatchTopKSAE", "JumpReluAutoEncoder"):
        h = x - w["b_dec"] if dict_class.startswith("Matryoshka") else x
        acts = (h @ w["W_enc"] + w["b_enc"]).relu()
        acts = acts * (acts > w["threshold"])
        return acts, acts @ w["W_dec"] + w["b_dec"]
    We, Wd = w["encoder.weight"], w["decoder.weight"]
    if dict_class == "GatedAutoEncoder":
        e = (x - w["decoder_bias"]) @ We.T
        acts = (e + w["gate_bias"] > 0) * (w["r_mag"].exp() * e + w["mag_bias"]).relu()
        return acts, acts @ Wd.T + w["decoder_bias"]
    bias = w[{"AutoEncoder": "bias", "AutoEncoderNew": "decoder.bias"}.get(dict_class, "b_dec")]
    acts = ((x if dict_class == "AutoEncoderNew" else x - bias) @ We.T + w["encoder.bias"]).relu()
    if dict_class == "AutoEncoderTopK":
        acts = acts * (acts >= acts.sort(descending=True).values[:, K - 1 : K])
    if dict_class == "BatchTopKSAE":
        acts = acts * (acts > w["threshold"])
    return acts, acts @ Wd.T + bias


@pytest.mark.parametrize("dict_class", SHAPES)
def test_formulas(tmp_path: Path, dict_class: str) -> None:
    sae = load_sae(saved(tmp_path, dict_class))
    x = torch.randn(40, D)
    acts, recon = formula(dict_class, tensors(dict_class), x)
    torch.testing.assert_close(sae.encode(x), acts)
    torch.testing.assert_close(sae(x), recon)
    assert (sae.architecture, sae.source.variant) == (ARCHITECTURES[dict_class], dict_class)
    assert sae.k == (K if dict_class == "AutoEncoderTopK" else None)
    assert (sae.model_name, sae.is_transcoder) == ("EleutherAI/pythia-70m-deduped", False)


@pytest.mark.parametrize("dict_class", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
def test_a_threshold_that_was_never_set(tmp_path: Path, dict_class: str) -> None:
    unset = {"threshold": torch.tensor(-1.0)}
    sae = load_sae(saved(tmp_path, dict_class, replaced=unset))
    x = torch.randn(40, D)
    acts, _ = formula(dict_class, tensors(dict_class) | unset, x)
    torch.testing.assert_close(sae.encode(x), acts)
    assert "acts as a ReLU" in sae.source.notes[0]
    assert not load_sae(saved(tmp_path / "set", dict_class)).source.notes


def test_threshold_equal_to_the_pre_activation_does_not_fire(tmp_path: Path) -> None:
    acts = load_sae(case("dictionary_learning__JumpReluAutoEncoder")[1]).encode(torch.zeros(1, 24))
    assert (acts[0, :2] > 0).tolist() == [False, False]
    tied = {"encoder.bias": torch.full((F,), 0.5), "threshold": torch.tensor(0.5), "b_dec": torch.zeros(D)}
    tied["encoder.bias"][0] = 0.5000001
    acts = load_sae(saved(tmp_path, "BatchTopKSAE", replaced=tied)).encode(torch.zeros(1, D))
    assert acts[0].nonzero().flatten().tolist() == [0]


@pytest.mark.parametrize("replaced", [{"k": None}, {"threshold": None}, {"threshold": torch.tensor(torch.nan)}])
def test_topk_needs_neither_its_threshold_nor_k_twice(tmp_path: Path, replaced: dict[str, Any]) -> None:
    assert load_sae(saved(tmp_path, "AutoEncoderTopK", replaced=replaced)).k == K


def test_k(tmp_path: Path) -> None:
    path = saved(tmp_path, "AutoEncoderTopK", {"k": None})
    assert (load_sae(path).k, load_sae(path, k=5).k) == (K, 5)
    path = saved(tmp_path, "AutoEncoderTopK", {"k": 4})
    with pytest.raises(SAELoadError, match=r"config\.json says k 4, but .*ae\.pt holds k 3: .* or give k"):
        load_sae(path)
    assert load_sae(path, k=4).k == 4
    with pytest.raises(SAELoadError, match=r"config\.json has no k, .* give k"):
        load_sae(saved(tmp_path, "AutoEncoderTopK", {"k": None}, {"k": None}))
    with pytest.raises(SAELoadError, match="batchtopk has no k"):
        load_sae(saved(tmp_path, "BatchTopKSAE"), k=3)


@pytest.mark.parametrize("dict_class", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
@pytest.mark.parametrize("k", [None, 3])
def test_two_k_where_none_is_used(tmp_path: Path, dict_class: str, k: int | None) -> None:
    with pytest.raises(SAELoadError, match=r"holds k 3: they do not belong together, so take both from one run\.$"):
        load_sae(saved(tmp_path, dict_class, {"k": 4}), k=k)


@pytest.mark.parametrize(
    ("trainer", "site"),
    [
        ({}, ("resid_post_layer_8", "resid_post", 8)),
        ({"submodule_name": "mlp_out_layer_8"}, ("mlp_out_layer_8", "mlp_out", 8)),
        ({"submodule_name": "attention_out_layer_8"}, ("attention_out_layer_8", "attn_out", 8)),
        ({"submodule_name": "gpt_neox.layers.8.mlp"}, ("gpt_neox.layers.8.mlp", "mlp.output", 8)),
        ({"submodule_name": "something"}, ("something", None, 8)),
        ({"submodule_name": None}, (None, None, 8)),
        ({"layer": None}, ("resid_post_layer_8", "resid_post", 8)),
        ({"layer": None, "submodule_name": None}, (None, None, None)),
        ({"layer": "", "submodule_name": "", "lm_name": ""}, (None, None, None)),
        ({"buffer": {"io": "in"}}, (None, None, 8)),
        ({"buffer": None}, ("resid_post_layer_8", "resid_post", 8)),
    ],
)
def test_the_config_names_the_hook(tmp_path: Path, trainer: dict[str, Any], site: tuple[object, ...]) -> None:
    sae = load_sae(saved(tmp_path / "resid_post_layer_3", "AutoEncoder", trainer))
    assert (sae.hook_name, sae.hook, sae.layer) == site


def test_overrides_win(tmp_path: Path) -> None:
    path = saved(tmp_path, "AutoEncoder", {"layer": 3})
    with pytest.raises(SAELoadError, match=r"config\.json says layer 3 and submodule_name 'resid_post_layer_8'"):
        load_sae(path)
    assert load_sae(path, layer=3, hook="mlp_out").hook_point() == ("mlp_out", 3)
    assert load_sae(path / "ae.pt", layer=8, centred=True).centred


def test_half_precision(tmp_path: Path) -> None:
    half = {name: tensor.bfloat16() for name, tensor in tensors("AutoEncoder").items()}
    sae = load_sae(saved(tmp_path, "AutoEncoder", replaced=half))
    assert (sae.dtype_on_disk, sae.W_enc.dtype) == ("bfloat16", torch.float32)


@pytest.mark.parametrize(
    ("dict_class", "trainer", "fault"),
    [
        ("AutoEncoder", {"dict_class": "CrossCoder"}, "dict_class 'CrossCoder'; known are AutoEncoder, "),
        ("AutoEncoder", {"dict_class": None}, "no dict_class; known are"),
        ("AutoEncoder", {"activation_dim": 7}, "activation_dim 7"),
        ("AutoEncoder", {"dict_size": 2**40}, "dict_size 1099511627776"),
        ("AutoEncoder", {"layer": -1}, "layer -1, which no model has"),
        ("AutoEncoder", {"layer": "8"}, "layer '8'"),
        ("AutoEncoder", {"submodule_name": "a\0b"}, "submodule_name"),
        ("AutoEncoder", {"buffer": {"io": "in_and_out"}}, "a transcoder"),
        ("AutoEncoderTopK", {"k": "3"}, "k '3'"),
    ],
)
def test_refuses_configs(tmp_path: Path, dict_class: str, trainer: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*config\.json)(?=.*{fault})"):
        load_sae(saved(tmp_path, dict_class, trainer))


@pytest.mark.parametrize(
    ("dict_class", "replaced", "fault"),
    [
        ("AutoEncoder", {"bias": None}, "no tensor bias"),
        ("AutoEncoder", {"decoder.bias": torch.zeros(D)}, "'decoder.bias', which its format does not have"),
        ("AutoEncoder", {"encoder.weight": torch.zeros(D, F)}, "encoder.weight as .* transposed"),
        ("AutoEncoder", {"decoder.weight": torch.full((D, F), torch.inf)}, "decoder.weight .* infinite"),
        ("BatchTopKSAE", {"threshold": None}, "no tensor threshold"),
        ("BatchTopKSAE", {"threshold": torch.tensor(torch.nan)}, "threshold .* NaN"),
        ("BatchTopKSAE", {"k": torch.tensor(4)}, "holds k 4"),
        ("AutoEncoderTopK", {"k": torch.tensor(3.5)}, "k 3.5"),
        ("MatryoshkaBatchTopKSAE", {"W_dec": torch.zeros(D, F)}, "W_dec as .* transposed"),
        ("MatryoshkaBatchTopKSAE", {"group_sizes": torch.tensor([4, 9])}, "group_sizes"),
        ("MatryoshkaBatchTopKSAE", {"group_sizes": torch.tensor([13, -1])}, "group_sizes"),
        ("MatryoshkaBatchTopKSAE", {"group_sizes": torch.tensor([4.0, 8.0])}, "group_sizes"),
        ("JumpReluAutoEncoder", {"threshold": torch.tensor(0.5)}, "threshold as"),
        ("GatedAutoEncoder", {"r_mag": torch.full((F,), 200.0)}, "r_mag"),
    ],
)
def test_refuses_tensors(tmp_path: Path, dict_class: str, replaced: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*ae\.pt)(?=.*{fault})"):
        load_sae(saved(tmp_path, dict_class, replaced=replaced))


@pytest.mark.parametrize("k", [0, 13])
def test_refuses_k_out_of_range(tmp_path: Path, k: int) -> None:
    with pytest.raises(SAELoadError, match=rf"k is {k} for .*config\.json"):
        load_sae(saved(tmp_path, "AutoEncoderTopK", {"k": k}, {"k": torch.tensor(k)}))


def test_refuses_an_interrupted_run(tmp_path: Path) -> None:
    path = saved(tmp_path, "AutoEncoder")
    state = {"step": 7, "ae": tensors("AutoEncoder"), "optimizer": {"state": {0: 1}}, "norm_factor": torch.tensor(2.0)}
    torch.save(state, path / "ae.pt")
    with pytest.raises(SAELoadError, match=r"ae\.pt is the state of an interrupted run"):
        load_sae(path)


def test_refuses_what_is_not_whole(tmp_path: Path) -> None:
    path = saved(tmp_path, "AutoEncoder")
    (path / "config.json").unlink()
    with pytest.raises(SAELoadError, match=r"config\.json is missing"):
        load_sae(path)
