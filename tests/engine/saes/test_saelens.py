"""SAELens checkpoints, of version 6 and before: edited copies of those that the library wrote."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae, saelens_v6
from jobs.engine.saes.activations import TopK
from jobs.engine.saes.place import Place
from tests.engine.saes.cases import case, expected


def edited(
    target: Path, name: str, cfg: dict[str, Any] | None = None, tensors: dict[str, torch.Tensor | None] | None = None
) -> Path:
    """A copy of a fixture with cfg keys and tensors replaced; None removes one."""
    _, path = case(name)
    config = json.loads((path / "cfg.json").read_text()) | (cfg or {})
    weights = load_file(path / "sae_weights.safetensors") | (tensors or {})
    target.mkdir(exist_ok=True)
    (target / "cfg.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))
    save_file({k: v for k, v in weights.items() if v is not None}, target / "sae_weights.safetensors")
    return target


def test_threshold_equal_to_the_pre_activation_does_not_fire() -> None:
    name = "saelens_v6__jumprelu__no_bdec_input_exact_tie"
    acts = load_sae(case(name)[1]).encode(torch.zeros(1, 24))
    assert (acts[0, :3] > 0).tolist() == [False, False, True]


def test_dtype_on_disk() -> None:
    assert load_sae(case("saelens_v6__jumprelu__bf16")[1]).dtype_on_disk == "bfloat16"
    assert load_sae(case("saelens_v6__jumprelu")[1]).dtype_on_disk == "float32"


def test_half_precision_is_converted_before_computing(tmp_path: Path) -> None:
    name = "saelens_v6__standard"
    half: dict[str, Any] = {k: v.half() for k, v in load_file(case(name)[1] / "sae_weights.safetensors").items()}
    sae = load_sae(edited(tmp_path, name, tensors=half))
    x = expected(name)["x"]
    want = ((x - half["b_dec"].float()) @ half["W_enc"].float() + half["b_enc"].float()).relu()
    assert sae.dtype_on_disk == "float16"
    torch.testing.assert_close(sae.encode(x), want, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("name", ["saelens_v6__topk", "saelens_v6__abstopk"])
def test_decoder_norms_in_the_activations(tmp_path: Path, name: str) -> None:
    """rescale_acts_by_decoder_norm with decoder norms other than 1: the choice of features depends on them."""
    sae = load_sae(edited(tmp_path, name, {"rescale_acts_by_decoder_norm": True}))
    w = load_file(case(name)[1] / "sae_weights.safetensors")
    x, norm = expected(name)["x"], w["W_dec"].norm(dim=1)
    p = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]) * norm
    magnitude = p.abs() if name.endswith("abstopk") else p
    want = torch.where(magnitude >= magnitude.sort(descending=True).values[:, 5:6], p, 0.0)
    want = want if name.endswith("abstopk") else want.relu()
    torch.testing.assert_close(sae.encode(x), want, atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(sae.decode(want), (want / norm) @ w["W_dec"] + w["b_dec"], atol=1e-4, rtol=1e-5)
    assert not torch.allclose(want, expected(name)["acts"], atol=1e-2)


def test_decoder_norm_of_zero(tmp_path: Path) -> None:
    name = "saelens_v6__topk"
    W_dec = load_file(case(name)[1] / "sae_weights.safetensors")["W_dec"]
    W_dec[3] = 0
    sae = load_sae(edited(tmp_path, name, {"rescale_acts_by_decoder_norm": True}, {"W_dec": W_dec}))
    x = expected(name)["x"]
    assert torch.isfinite(sae(x)).all()
    assert (sae.encode(x)[:, 3] == 0).all()


def test_skip_of_a_jumprelu_transcoder(tmp_path: Path) -> None:
    name = "saelens_v6__jumprelu_transcoder"
    W_skip = torch.arange(16 * 24).reshape(16, 24) / 100
    cfg = {"architecture": "jumprelu_skip_transcoder"}
    sae = load_sae(edited(tmp_path, name, cfg, {"W_skip": W_skip}))
    want = expected(name)
    torch.testing.assert_close(sae(want["x"]), want["recon"] + want["x"] @ W_skip.T, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["saelens_v6__skip_transcoder", "saelens_v6__standard__layer_norm", "saelens_v6__standard"]
)
def test_decode_without_x(name: str) -> None:
    sae = load_sae(case(name)[1])
    want = expected(name)
    if sae.decode_needs_x:
        with pytest.raises(ValueError, match="needs x"):
            sae.decode(want["acts"])
    else:
        torch.testing.assert_close(sae.decode(want["acts"]), want["recon"], atol=1e-4, rtol=1e-5)
    assert sae.decode_needs_x == (name != "saelens_v6__standard")


def test_a_negative_threshold_lets_no_negative_activation_through(tmp_path: Path) -> None:
    name = "saelens_v6__jumprelu"
    sae = load_sae(edited(tmp_path, name, tensors={"threshold": torch.full((64,), -1e9)}))
    w = load_file(case(name)[1] / "sae_weights.safetensors")
    x = expected(name)["x"]
    want = ((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    torch.testing.assert_close(sae.encode(x), want, atol=1e-4, rtol=1e-5)


def test_expected_average_only_in_is_folded_already(tmp_path: Path) -> None:
    name = "saelens_v6__standard"
    path = edited(tmp_path, name, {"normalize_activations": "expected_average_only_in"})
    (path / "activation_scaler.json").write_text('{"scaling_factor": null}')
    torch.testing.assert_close(load_sae(path).encode(expected(name)["x"]), expected(name)["acts"])
    for key in ("scaling_factor", "scale"):
        (path / "activation_scaler.json").write_text(f'{{"{key}": 0.5}}')
        with pytest.raises(SAELoadError, match=rf"activation_scaler\.json has '{key}' 0\.5.* training checkpoint"):
            load_sae(path)


@pytest.mark.parametrize(
    ("name", "hook"),
    [
        ("blocks.9.hook_resid_post", "resid_post"),
        ("blocks.9.hook_resid_pre", "resid_pre"),
        ("blocks.9.hook_mlp_out", "mlp_out"),
        ("blocks.9.hook_attn_out", "attn_out"),
        ("blocks.9.attn.hook_z", "z"),
        ("blocks.9.ln2.hook_normalized", "mlp_in_normalized"),
        ("blocks.9.hook_pattern", "hook_pattern"),
    ],
)
def test_hook_names(tmp_path: Path, name: str, hook: str) -> None:
    sae = load_sae(edited(tmp_path, "saelens_v6__standard", {"metadata": {"hook_name": name}}))
    assert (sae.hook_name, sae.hook, sae.layer) == (name, hook, 9)
    assert sae.hook_point() == (hook, 9)


def test_an_unknown_hook_point_is_refused_only_when_asked_for(tmp_path: Path) -> None:
    path = edited(tmp_path, "saelens_v6__standard", {"metadata": {"hook_name": "model.layers[9]"}})
    sae = load_sae(path)
    assert (sae.hook_name, sae.hook, sae.layer) == ("model.layers[9]", None, None)
    with pytest.raises(SAELoadError, match="give hook and layer"):
        sae.hook_point()
    with pytest.raises(SAELoadError, match="give layer"):
        load_sae(path, hook="resid_post").hook_point()
    assert load_sae(path, hook="resid_post", layer=0).hook_point() == ("resid_post", 0)


def test_overrides_win_over_the_files() -> None:
    _, path = case("saelens_v6__topk")
    sae = load_sae(path, k=2, layer=4, hook="blocks.3.hook_mlp_out")
    assert (sae.k, sae.layer, sae.hook, sae.hook_name) == (2, 4, "mlp_out", "blocks.9.hook_resid_post")
    assert load_sae(path, hook="blocks.3.hook_mlp_out").hook_point() == ("mlp_out", 3)
    assert (sae.encode(expected("saelens_v6__topk")["x"]) > 0).sum(1).max() == 2
    assert load_sae(path).k == 6


def test_k_can_be_given_where_the_file_has_none() -> None:
    assert load_sae(case("bad__saelens_topk_without_k")[1], k=6).k == 6


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        ({"k": 0}, "k must be a whole number"),
        ({"k": True}, "k must be a whole number"),
        ({"k": 65}, "k is 65"),
        ({"layer": -1}, "layer must be"),
        ({"layer": "9"}, "layer must be"),
        ({"hook": ""}, "hook must be"),
        ({"hook": "x" * 5000}, "hook must be"),
        ({"hook": "a\0b"}, "hook must be"),
    ],
)
def test_refuses_overrides(overrides: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=fault):
        load_sae(case("saelens_v6__topk")[1], **overrides)


def test_refuses_k_where_the_architecture_has_none() -> None:
    with pytest.raises(SAELoadError, match="standard has no k"):
        load_sae(case("saelens_v6__standard")[1], k=5)


@pytest.mark.parametrize(
    ("cfg", "fault"),
    [
        ({"architecture": None}, "no architecture; known are standard"),
        ({"architecture": ["standard"]}, "architecture .* no text"),
        ({"architecture": "matryoshka_batchtopk"}, "training checkpoint"),
        ({"d_in": "24"}, "d_in '24'"),
        ({"d_in": 25}, "says d_in 25"),
        ({"d_out": 16}, "says d_out 16"),
        ({"apply_b_dec_to_input": "false"}, "'false', which is neither true nor false"),
        ({"normalize_activations": "covariance_whitening"}, "covariance_whitening"),
        ({"reshape_activations": "cls"}, "reshape_activations"),
        ({"metadata": []}, "metadata .* no object"),
        ({"metadata": {"hook_name": 5}}, "hook_name"),
        ({"metadata": {"hook_name": "x\0" * 1000}}, "hook_name"),
        ({"architecture": "gated"}, "no tensor b_gate"),
        ({"architecture": "transcoder"}, "apply_b_dec_to_input"),
        ({"architecture": "topk", "k": 2**70}, "k is 1180591620717411303424 "),
        ({"architecture": "topk", "k": 6.0}, "k 6.0"),
        ({"architecture": "topk", "k": -1}, "k is -1"),
    ],
)
def test_refuses_configs(tmp_path: Path, cfg: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*cfg\.json|.*sae_weights)(?=.*{fault})") as refusal:
        load_sae(edited(tmp_path, "saelens_v6__standard", cfg))
    assert len(str(refusal.value)) < len(str(tmp_path)) * 2 + 300


def test_metadata_may_be_absent_from_version_6_on(tmp_path: Path) -> None:
    sae = load_sae(edited(tmp_path, "saelens_v6__standard", {"metadata": None, "sae_lens_version": "6.0.0"}))
    assert (sae.hook, sae.layer) == (None, None)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("\xff\xfe", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"d_in": ' + "9" * 5000 + "}", "not JSON"),
        ("[1]", "no JSON object"),
        (" " * 1_000_001, "larger than"),
    ],
)
def test_refuses_config_text(tmp_path: Path, text: str, fault: str) -> None:
    path = edited(tmp_path, "saelens_v6__standard")
    (path / "cfg.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(SAELoadError, match=rf"cfg\.json .*{fault}"):
        load_sae(path)


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({"b_dec": None}, "no tensor b_dec"),
        ({"W_enc": torch.zeros(64, 24)}, "W_enc as .* transposed"),
        ({"W_enc": torch.zeros(23, 64)}, "W_enc as .* do not belong together"),
        ({"W_enc": torch.zeros(24 * 64)}, "W_enc as"),
        ({"b_enc": torch.zeros(64, 1)}, "b_enc as .* vector"),
        ({"b_enc": torch.zeros(64, dtype=torch.int32)}, "b_enc as no floats of 16, 32 or 64 bits"),
        ({"b_enc": torch.full((64,), torch.inf)}, "b_enc .* infinite"),
        ({"b_enc": torch.full((64,), 1e300, dtype=torch.float64)}, "b_enc .* infinite"),
        (
            {"b_enc": torch.zeros(0), "W_enc": torch.zeros(24, 0), "W_dec": torch.zeros(0, 24)},
            "b_enc as .* vector is needed",
        ),
        ({"threshold": torch.zeros(64)}, "'threshold', which its format does not have"),
        ({"log_threshold": torch.zeros(64)}, "log_threshold: .* training checkpoint"),
    ],
)
def test_refuses_tensors(tmp_path: Path, tensors: dict[str, Any], fault: str) -> None:
    with pytest.raises(SAELoadError, match=rf"(?=.*sae_weights\.safetensors)(?=.*{fault})"):
        load_sae(edited(tmp_path, "saelens_v6__standard", tensors=tensors))


@pytest.mark.parametrize("r_mag", [-200.0, -14.0, -6.0, 3.0])
def test_a_small_scale_does_not_lose_the_gate(tmp_path: Path, r_mag: float) -> None:
    name = "saelens_v6__gated"
    w = load_file(case(name)[1] / "sae_weights.safetensors")
    w["r_mag"][::2] = r_mag
    sae = load_sae(edited(tmp_path, name, tensors=dict(w)))
    x = torch.randn(1000, 24, generator=torch.Generator().manual_seed(0))
    d = {key: tensor.double() for key, tensor in w.items()}
    e = (x.double() - d["b_dec"]) @ d["W_enc"]
    want = (e + d["b_gate"] > 0) * (d["r_mag"].exp() * e + d["b_mag"]).relu()
    sure = (e + d["b_gate"]).abs() > 1e-4
    torch.testing.assert_close(sae.encode(x)[sure].double(), want[sure], atol=1e-4, rtol=1e-5)


def test_refuses_a_gate_scale_that_overflows(tmp_path: Path) -> None:
    path = edited(tmp_path, "saelens_v6__gated", tensors={"r_mag": torch.full((64,), 200.0)})
    with pytest.raises(SAELoadError, match="r_mag"):
        load_sae(path)
    path = edited(tmp_path, "saelens_v6__gated", tensors={"r_mag": torch.tensor([-14.0, 200.0] * 32)})
    with pytest.raises(SAELoadError, match="r_mag"):
        load_sae(path)


def test_refuses_a_header_longer_than_the_file(tmp_path: Path) -> None:
    path = edited(tmp_path, "saelens_v6__standard")
    weights = path / "sae_weights.safetensors"
    weights.write_bytes((2**40).to_bytes(8, "little") + weights.read_bytes()[8:])
    with pytest.raises(SAELoadError, match="not a whole safetensors file"):
        load_sae(path)


def test_refuses_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SAELoadError, match="does not exist"):
        load_sae(tmp_path / "absent")
    with pytest.raises(SAELoadError, match=r"no SAE checkpoint .* saelens_v6"):
        load_sae(tmp_path)
    with pytest.raises(SAELoadError, match="cannot be read: File name too long"):
        load_sae(tmp_path / ("x" * 5000))
    path = edited(tmp_path / "sae", "saelens_v6__standard")
    assert load_sae(path / "sae_weights.safetensors").digest == load_sae(path).digest  # it is part of a folder
    (path / "cfg.json").rename(tmp_path / "cfg.json")
    with pytest.raises(SAELoadError, match=r"cfg\.json is missing"):
        load_sae(path)
    with pytest.raises(SAELoadError, match=r"sae_weights\.safetensors is missing"):
        load_sae(tmp_path)


@pytest.mark.parametrize("names", [("config.json", "sae_weights.safetensors"), ("cfg.json", "sae.safetensors")])
def test_folders_of_other_libraries_are_not_taken_for_saelens(tmp_path: Path, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert not saelens_v6.detect(Place(tmp_path))


def test_digest_follows_the_bytes_that_are_read(tmp_path: Path) -> None:
    name = "saelens_v6__standard"
    first = load_sae(edited(tmp_path / "a", name)).digest
    assert re.fullmatch("[0-9a-f]{64}", first)
    assert load_sae(edited(tmp_path / "b", name)).digest == first
    assert load_sae(edited(tmp_path / "c", name, {"apply_b_dec_to_input": False})).digest != first
    assert load_sae(edited(tmp_path / "d", name, tensors={"b_enc": torch.zeros(64)})).digest != first


def test_weights_outlive_their_file(tmp_path: Path) -> None:
    path = edited(tmp_path, "saelens_v6__standard")
    sae = load_sae(path)
    with (path / "sae_weights.safetensors").open("r+b") as stream:
        stream.truncate(0)
    torch.testing.assert_close(sae(expected("saelens_v6__standard")["x"]), expected("saelens_v6__standard")["recon"])


@given(st.data())
def test_top_k_gives_ties_to_the_lower_index(data: st.DataObject) -> None:
    n, width = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 40))
    k, by_magnitude = data.draw(st.integers(1, width)), data.draw(st.booleans())
    values = st.lists(st.integers(-3, 3), min_size=n * width, max_size=n * width)
    p = np.array(data.draw(values), dtype=np.float32).reshape(n, width)
    want = np.zeros_like(p)
    for row, out in zip(p, want, strict=True):
        scores = np.abs(row) if by_magnitude else row
        kept = sorted(range(width), key=lambda i: (-scores[i], i))[:k]
        out[kept] = row[kept] if by_magnitude else np.maximum(row[kept], 0)
    got = TopK(k, by_magnitude=by_magnitude)(torch.from_numpy(p)).numpy()
    np.testing.assert_array_equal(got, want)


def test_top_k_ties_in_a_wide_row() -> None:
    """Wide enough for topk's other algorithms, which pick equal values in no order."""
    p = torch.ones(3, 20_000)
    p[1, 19_999] = 2.0
    p[2, 5] = -1.0
    active = [row.nonzero().flatten().tolist() for row in TopK(7)(p)]
    assert active == [[*range(7)], [*range(6), 19_999], [0, 1, 2, 3, 4, 6, 7]]
