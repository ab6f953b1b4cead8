"""Llama Scope (He et al. 2024, arXiv 2410.20526): ``hyperparams.json`` and ``checkpoints/final.safetensors``.

With fi = sqrt(d) / the dataset's average norm at the input, fo likewise at the output, the library brings all to raw
units: b_enc / fi, b_dec / fo, W_dec * fi / fo. Then, with ``sparsity_include_decoder_norm``, the norms of W_dec's rows
are folded into the encoder. What comes out is compared with ``jump_relu_threshold`` as it is.
"""

import torch
from torch import Tensor, nn

from jobs.engine.errors import SAELoadError
from jobs.engine.saes.activations import JumpReLU, TopK
from jobs.engine.saes.base import SAE, Overrides
from jobs.engine.saes.llamascopium import ARCHITECTURES, DATASET_NORM, FOLDED, Folder, check_sizes
from jobs.engine.saes.place import Place
from jobs.engine.saes.saelens_v6 import fold_decoder_norms
from jobs.engine.saes.weights import finite

NAME = "llamascope"

_CONFIG, _WEIGHTS = "hyperparams.json", "checkpoints/final.safetensors"
_W_ENC, _B_ENC, _W_DEC, _B_DEC = "encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"


def detect(place: Place) -> bool:
    return place.has(_CONFIG)


def load(place: Place, overrides: Overrides) -> SAE:
    """Raises SAELoadError on what depends on the token's or its batch's norm, and on contradictions."""
    folder = Folder.open(NAME, place, overrides, (_CONFIG, _WEIGHTS), *ARCHITECTURES)
    # Without the field the library's default was token-wise.
    dataset_wise = folder.config.choice("norm_activation", ("dataset-wise", "inference")) == "dataset-wise"
    tensors = _tensors(folder)
    if dataset_wise:
        _fold_scales(folder, tensors)
    # The library takes the bias off where it is in raw units already.
    pre_bias = tensors["b_dec"] if _takes_bias_off(folder) else None
    if folder.gate_sees_norms:
        fold_decoder_norms(tensors, folder.weights.file)
    return SAE(
        folder.source(_W_ENC, FOLDED if dataset_wise else None),
        W_enc=tensors["W_enc"],
        b_enc=tensors["b_enc"],
        W_dec=tensors["W_dec"],
        b_dec=tensors["b_dec"],
        pre_bias=pre_bias,
        activation=_activation(folder, len(tensors["b_enc"])),
    )


def _tensors(folder: Folder) -> dict[str, Tensor]:
    config, weights = folder.config, folder.weights
    biased = folder.has_decoder_bias(_B_DEC)
    weights.only(_W_ENC, _B_ENC, _W_DEC, *((_B_DEC,) if biased else ()))
    d, d_sae = weights.length(_B_DEC) if biased else weights.rows(_W_DEC), weights.length(_B_ENC)
    check_sizes(config, d, d_sae)
    return {
        "W_enc": weights.tensor(_W_ENC, d_sae, d).T,
        "b_enc": weights.tensor(_B_ENC, d_sae),
        "W_dec": weights.tensor(_W_DEC, d, d_sae).T,
        "b_dec": weights.tensor(_B_DEC, d) if biased else torch.zeros(d),
    }


def _fold_scales(folder: Folder, tensors: dict[str, Tensor]) -> None:
    norms, file, d = folder.config.part(DATASET_NORM), folder.config.file, len(tensors["b_dec"])
    scales = {}
    for side in ("in", "out"):
        if side not in norms:
            raise SAELoadError(f"{file} has no {DATASET_NORM} {side}, which norm_activation dataset-wise needs.")
        scales[side] = folder.scale(norms.get(side, float), d, f"{DATASET_NORM} {side} in {file}")
    tensors["b_enc"].div_(scales["in"])
    tensors["b_dec"].div_(scales["out"])
    tensors["W_dec"].mul_(scales["in"] / scales["out"])
    for tensor in tensors.values():
        finite(tensor, f"a weight scaled by {DATASET_NORM} in {file}")


def _takes_bias_off(folder: Folder) -> bool:
    """The library's default is to do so, where there is a bias."""
    stated: bool = folder.config.get("apply_decoder_bias_to_pre_encoder", bool, True)
    return stated and _B_DEC in folder.weights


def _activation(folder: Folder, d_sae: int) -> nn.Module:
    config, overrides = folder.config, folder.overrides
    if folder.act_fn == "topk":
        return TopK(overrides.choose_k(config.get("top_k", int), d_sae, config.file))
    overrides.no_k(config.file, folder.act_fn)
    if folder.act_fn == "relu":
        return nn.ReLU(inplace=True)
    threshold: float = config.need("jump_relu_threshold", float)
    if not 0 <= threshold <= torch.finfo(torch.float32).max:
        fault = "lets negative features through" if threshold < 0 else "is too large for any feature"
        raise SAELoadError(f"{config.file} has jump_relu_threshold {threshold:.6g}, which {fault}.")
    return JumpReLU(torch.full((d_sae,), threshold))
