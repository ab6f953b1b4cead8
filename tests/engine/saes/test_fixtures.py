"""Every format against what its own library computed, and every broken checkpoint refused by a sentence."""

import re
import shutil
from pathlib import Path

import pytest
import torch

from jobs.engine import hook_names
from jobs.engine.errors import SAELoadError
from jobs.engine.saes import load_sae
from tests.engine.saes.cases import BAD, FIXTURES, GOOD, case, expected

# What each refusal must say, beside the file: the fault, so that the right check made it.
FAULTS = {
    "bad__llamascopium_other_sae_type": ("config.json", "clt"),
    "bad__npz_object_array": ("params.npz", "Python objects"),
    "bad__npz_truncated": ("params.npz", "not a whole npz file"),
    "bad__pickle_executes_code_ae_pt": ("ae.pt", "could run code"),
    "bad__qwen_without_k": ("layer5.sae.pt", "give k"),
    "bad__saelens_batchtopk_training_checkpoint": ("cfg.json", "training checkpoint"),
    "bad__saelens_huge_dims_in_cfg": ("cfg.json", "d_sae 1099511627776"),
    "bad__saelens_k_larger_than_d_sae": ("cfg.json", "k is 65 .* 64 features"),
    "bad__saelens_legacy_finetuned_scaling_factor": ("sae_weights.safetensors", "scaling_factor"),
    "bad__saelens_nan_weights": ("sae_weights.safetensors", "W_enc .* NaN"),
    "bad__saelens_topk_without_k": ("cfg.json", "give k"),
    "bad__saelens_transposed_W_dec": ("sae_weights.safetensors", "W_dec as .* transposed"),
    "bad__saelens_truncated_safetensors": ("sae_weights.safetensors", "not a whole safetensors file"),
    "bad__saelens_unknown_architecture": ("cfg.json", "hyper_gated_v9"),
    "bad__safetensors_header_length": ("sae_weights.safetensors", "not a whole safetensors file"),
    "bad__truncated_pt": ("ae.pt", "not a whole torch file"),
}


@pytest.mark.parametrize("name", GOOD)
def test_matches_the_library(name: str) -> None:
    facts, path = case(name)
    want = expected(name)
    sae = load_sae(path, **facts.get("loader_args", {}))
    acts = sae.encode(want["x"])
    recon = sae.decode(acts, want["x"])
    rows = [i for i in range(len(want["x"])) if i not in facts.get("nan_rows", [])]
    torch.testing.assert_close(acts[rows], want["acts"][rows], **facts["tolerance"])
    torch.testing.assert_close(recon[rows], want["recon"][rows], **facts["tolerance"])
    assert torch.isfinite(recon).all()
    assert (sae.d_in, sae.d_sae, sae.d_out) == (facts["d_in"], facts["d_sae"], facts["d_out"])
    assert sae.format == facts["format"]
    assert sae.k in (None, facts.get("k", sae.k))
    assert (sae.W_enc.shape, sae.W_dec.shape) == ((sae.d_in, sae.d_sae), (sae.d_sae, sae.d_out))
    assert {b.dtype for b in sae.buffers()} == {torch.float32}


@pytest.mark.parametrize("name", GOOD)
def test_says_where_it_reads_and_writes(name: str) -> None:
    facts, path = case(name)
    sae = load_sae(path, **facts.get("loader_args", {}))
    assert sae.layer == facts.get("expected_layer")
    if facts.get("hook"):
        assert (sae.hook, sae.layer) == hook_names.parse(facts["hook"]) or "transcode" in name
    if facts.get("hook_out"):
        assert (sae.hook_out, sae.layer_out) == hook_names.parse(facts["hook_out"])
        assert sae.is_transcoder


@pytest.mark.parametrize("name", GOOD)
def test_reads_it_again_where_it_is_copied_to(name: str, tmp_path: Path) -> None:
    """Names on the way say layer and k of some formats; the digest is of the files alone."""
    facts, path = case(name)
    shutil.copytree(FIXTURES / name, tmp_path / "copy")
    copy = load_sae(tmp_path / "copy" / facts["load_path"], **facts.get("loader_args", {}))
    assert copy.digest == load_sae(path, **facts.get("loader_args", {})).digest


@pytest.mark.parametrize("name", BAD)
def test_refuses(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, path = case(name)
    file, fault = FAULTS[name]
    monkeypatch.chdir(tmp_path)  # where code in a pickle would leave its file
    with pytest.raises(SAELoadError, match=f"(?s)^(?=.*{re.escape(file)})(?=.*{fault})") as refusal:
        load_sae(path)
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.iterdir())
    assert not list(FIXTURES.rglob("PWNED"))


def test_every_fixture_is_tested() -> None:
    assert len(GOOD) == 46
    assert sorted(FAULTS) == BAD


def test_refuses_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(SAELoadError, match="is no SAE checkpoint"):
        load_sae(tmp_path)
