"""SAEs of random weights, written as the libraries write them: one function for each layout."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

F, K = 32, 6


def weights(d_in: int, d_out: int | None = None) -> dict[str, Tensor]:
    """W_enc [d_in, F], W_dec [F, d_out] with rows of different norms, b_enc, b_dec."""
    generator = torch.Generator().manual_seed(0)
    d_out = d_in if d_out is None else d_out
    norms = torch.rand(F, 1, generator=generator) + 0.2
    return {
        "W_enc": torch.randn(d_in, F, generator=generator),
        "W_dec": norms * torch.nn.functional.normalize(torch.randn(F, d_out, generator=generator)),
        "b_enc": 0.1 * torch.randn(F, generator=generator),
        "b_dec": 0.1 * torch.randn(d_out, generator=generator),
    }


def saelens(folder: Path, tensors: dict[str, Tensor], architecture: str, hook: str | None, **config: Any) -> Path:
    """SAELens 6. ``hook`` may be "this -> that", of a transcoder; None where it is not said."""
    hook_in, _, hook_out = (hook or "").partition(" -> ")
    metadata = {"hook_name": hook_in or None, "hook_name_out": hook_out or None, "sae_lens_version": "6.0.0"}
    d_in, d_out = len(tensors["W_enc"]), tensors["W_dec"].shape[1]
    config = {
        "architecture": architecture, "d_in": d_in, "d_out": d_out, "d_sae": F, "dtype": "float32",
        "apply_b_dec_to_input": "transcoder" not in architecture, "metadata": metadata,
    } | config  # fmt: skip
    return _folder(folder, "cfg.json", config, "sae_weights.safetensors", tensors)


def sparsify(folder: Path, d: int, **config: Any) -> Path:
    """The name of ``folder`` is the hook point."""
    w = weights(d)
    tensors = {"encoder.weight": w["W_enc"].T, "encoder.bias": w["b_enc"], "W_dec": w["W_dec"], "b_dec": w["b_dec"]}
    return _folder(folder, "cfg.json", {"d_in": d, "num_latents": F, "k": 4} | config, "sae.safetensors", tensors)


def llamascopium(folder: Path, d: int, hook: str, act_fn: str, n_zero: int = 0) -> Path:
    """Gated by its decoder's norms; the last ``n_zero`` of its rows are 0."""
    w = weights(d)
    w["W_dec"][F - n_zero :] = 0
    tensors = {"W_E": w["W_enc"], "b_E": w["b_enc"], "W_D": w["W_dec"], "b_D": w["b_dec"]}
    tensors |= {f"dataset_average_activation_norm.{hook}": torch.tensor(9.25)}
    if act_fn == "jumprelu":
        tensors["activation_function.log_jumprelu_threshold"] = torch.zeros(F)
    config = {
        "sae_type": "sae", "d_model": d, "expansion_factor": F / d, "act_fn": act_fn, "top_k": K,
        "hook_point_in": hook, "hook_point_out": hook, "sparsity_include_decoder_norm": True,
        "norm_activation": "dataset-wise", "use_decoder_bias": True,
    }  # fmt: skip
    return _folder(folder, "config.json", config, "sae_weights.safetensors", tensors)


def qwen_scope(folder: Path, d: int, layer: int, bias: float) -> Path:
    """With a low ``bias`` fewer than K pre-activations are above 0."""
    w = weights(d)
    folder = folder / f"SAE-Res-Tiny-W{F}-L0_{K}"
    folder.mkdir(parents=True)
    tensors = {"W_enc": w["W_enc"].T, "W_dec": w["W_dec"].T, "b_enc": w["b_enc"] + bias, "b_dec": w["b_dec"]}
    torch.save({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / f"layer{layer}.sae.pt")
    return folder / f"layer{layer}.sae.pt"


def gemma_scope(folder: Path, d: int, layer: int) -> Path:
    folder = folder / "gemma-scope-2b-pt-res" / f"layer_{layer}" / "width_32" / f"average_l0_{K}"
    folder.mkdir(parents=True)
    arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in weights(d).items()}
    np.savez(folder / "params.npz", **arrays, threshold=np.full(F, 2, np.float32))
    return folder


def _folder(folder: Path, config_name: str, config: dict[str, Any], name: str, tensors: dict[str, Tensor]) -> Path:
    folder.mkdir(parents=True)
    (folder / config_name).write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / name)
    return folder
