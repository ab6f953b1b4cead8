"""The usual ways to misread an SAE, undone one at a time: what it would give if it were read otherwise.

What is folded or not, taken off or not, is seen in no shape. Each Reading here is a guess at how the weights were
meant; jobs.engine.check finds out which fits the activations.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from jobs.engine.saes import SAE
from jobs.engine.saes.activations import GroupMax, JumpReLU, TopK
from jobs.engine.saes.norms import ConstantNorm, LayerNorm

ROWS = 256  # tokens whose dense features are there at a time
KS = (8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class Read:
    """``y`` [n, d_out]: what the SAE should give; ``y_hat``: what it gives; ``n_active`` features not 0 in all."""

    y: Tensor
    y_hat: Tensor
    n_active: int


@dataclass(frozen=True)
class Reading:
    """``advice``: what is wrong if this one fits. ``read``: of activations x and y, float32 [n, d]."""

    advice: str
    read: Callable[[Tensor, Tensor], Read]


def as_loaded(sae: SAE) -> Reading:
    return Reading("", lambda x, y: _read(sae, x, y))


def readings(sae: SAE, norm: float) -> Iterator[Reading]:
    """Other readings of ``sae`` where it reads. ``norm``: of the median activation there."""
    yield from _of_the_input(sae, norm)
    yield from _of_the_biases(sae)
    yield from _of_the_activation(sae)
    yield from _of_the_decoder(sae)


def _of_the_input(sae: SAE, norm: float) -> Iterator[Reading]:
    def centred(x: Tensor, y: Tensor) -> Read:
        return _read(sae, _centre(x), y if sae.is_transcoder else _centre(y))

    if not sae.centred:
        yield Reading("The mean over d_model has to be taken off the activations first: load it with centred.", centred)
    if sae.norm is None:
        norms = (("a layer norm of its input", LayerNorm()), ("its input scaled to norm sqrt(d)", ConstantNorm()))
        for what, kind in norms:
            normed = _like(sae, norm=kind, undo_norm=not sae.is_transcoder)
            yield Reading(f"It expects {what}, which its config does not say.", as_loaded(normed).read)
    if not 0 < norm < math.inf:  # no token to tell it by
        return
    scale = sae.d_in**0.5 / norm
    yield Reading(
        f"It expects activations of mean norm sqrt(d), {scale:.3g} times what the model gives: the scale of its "
        "training was not folded into the weights.",
        lambda x, y: _read(_scaled(sae, scale), x, y),
    )
    yield Reading(
        f"Its weights were scaled twice: it expects activations {1 / scale:.3g} times as large as the model gives.",
        lambda x, y: _read(_scaled(sae, 1 / scale), x, y),
    )


def _of_the_biases(sae: SAE) -> Iterator[Reading]:
    if sae.pre_bias is not None:
        without = _like(sae, pre_bias=None)
        yield Reading("b_dec must not be taken off its input, as its config has it.", as_loaded(without).read)
    elif sae.d_in == sae.d_out:
        subtracted = _like(sae, pre_bias=sae.b_dec)
        yield Reading("b_dec has to be taken off its input, which its config does not say.", as_loaded(subtracted).read)


def _of_the_activation(sae: SAE) -> Iterator[Reading]:
    if not isinstance(sae.activation, TopK | GroupMax):
        for k in (k for k in KS if k < sae.d_sae):
            advice = f"It is a TopK SAE, of about k = {k}, that was loaded as {sae.architecture}."
            yield Reading(advice, as_loaded(_like(sae, activation=TopK(k))).read)
    if not isinstance(sae.activation, nn.ReLU):
        relu = _like(sae, activation=nn.ReLU())
        yield Reading(f"It is a ReLU SAE that was loaded as {sae.architecture}.", as_loaded(relu).read)


def _of_the_decoder(sae: SAE) -> Iterator[Reading]:
    """Decoder norms may be meant to weigh the features: in the choice, in the activations, or not at all."""
    norms = sae.W_dec.norm(dim=1)
    safe = norms.clamp_min(1e-12)
    if (norms - 1).abs().max() < 1e-3:
        return
    unit = _like(sae, W_dec=sae.W_dec / safe[:, None])
    yield Reading("Its activations include the decoder's norms already: they were counted twice.", as_loaded(unit).read)
    ranked: nn.Module
    if isinstance(sae.activation, TopK):
        ranked = TopK(sae.activation.k, relu=sae.activation.relu, rank_by=norms)
    elif isinstance(sae.activation, JumpReLU):
        ranked = JumpReLU(sae.activation.threshold / safe)
    else:
        return
    chosen = _like(sae, activation=ranked)
    yield Reading("Features are to be chosen by activation times decoder norm.", as_loaded(chosen).read)


def _read(sae: SAE, x: Tensor, y: Tensor) -> Read:
    n_active, parts = 0, []
    for chunk in torch.split(x, ROWS):
        acts = sae.encode(chunk)
        n_active += int((acts != 0).sum())
        parts.append(sae.decode(acts, chunk))
    return Read(y, torch.cat(parts) if parts else y, n_active)


def _scaled(sae: SAE, scale: float) -> SAE:
    """The SAE that does to x what ``sae`` does to x * scale, its output divided by it."""
    pre_bias = None if sae.pre_bias is None else sae.pre_bias / scale
    return _like(sae, W_enc=sae.W_enc * scale, W_dec=sae.W_dec / scale, b_dec=sae.b_dec / scale, pre_bias=pre_bias)


def _like(sae: SAE, **changes: object) -> SAE:
    """``sae`` with some of its parts replaced; the others are shared, not copied."""
    names = ("W_enc", "b_enc", "W_dec", "b_dec", "activation", "pre_bias", "W_skip")
    parts = {name: getattr(sae, name) for name in names}
    parts |= {"norm": sae.norm, "undo_norm": not sae.is_transcoder} | changes
    return SAE(sae.source, **parts).to(sae.W_enc.device)


def _centre(x: Tensor) -> Tensor:
    return x - x.mean(-1, keepdim=True)
