"""What 14 times the features cost, step by step: nothing may grow faster than the encoder's own matrix product."""

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from jobs.bench.subjects import random_sae
from jobs.engine import codes, decoder
from jobs.engine.capture import Batch
from jobs.engine.codes import Codes, Triples
from jobs.engine.corpus import Context
from jobs.engine.extraction import NEAR_PER_TOKEN, ExtractionSettings
from jobs.engine.saes import SAE
from jobs.engine.state import State

WIDTHS = (4_608, 65_536)
D_MODEL, LENGTH, VOCABULARY, K = 576, 128, 49_152, 32
REPEATS = 5


def measure(n_tokens: int, device: str, widths: tuple[int, ...] = WIDTHS) -> dict[str, Any]:
    """Milliseconds per 2,048 tokens of each step at each width, how much that grew, and the state's size.

    The state is that of ``n_tokens`` made-up tokens, on which each feature fires at random: no table stays short.
    """
    steps = {width: _steps(random_sae(width, D_MODEL, 0, device), device) for width in widths}
    states = {width: _state(width, n_tokens, device) for width in widths}
    narrow, wide = widths[0], widths[-1]
    return {
        "widths": list(widths),
        "ms": {name: [steps[w][name] for w in widths] for name in steps[wide]},
        "growth": {name: steps[wide][name] / steps[narrow][name] for name in steps[wide]},
        "keep_ms": [states[w][0] for w in widths],
        "state_mb": [states[w][1] for w in widths],
        "weights_s": _weights(widths, device),
    }


def _steps(sae: SAE, device: str) -> dict[str, float]:
    x = torch.randn(2048, D_MODEL, device=device)
    found = codes.encode(sae, x, NEAR_PER_TOKEN)
    settings = ExtractionSettings(context=LENGTH)
    state = State.empty(sae.d_sae, D_MODEL, settings, 16, device)
    x_hat = codes.reconstruct(sae, found, x)
    batch = _batch(0, x, device)
    return {
        "encoder matmul": _ms(lambda: _matmul(sae, x), device),
        "encode": _ms(lambda: codes.encode(sae, x, NEAR_PER_TOKEN), device),
        "reconstruct": _ms(lambda: codes.reconstruct(sae, found, x), device),
        "count and keep": _ms(lambda: state.update(batch, found, x_hat, 0), device),
    }


def _matmul(sae: SAE, x: Tensor) -> None:
    """A chunk at a time, as extraction does it."""
    for chunk in torch.split(x, codes.chunk_size(sae, x)):
        functional.linear(chunk, sae.W_enc.T, sae.b_enc)


def _state(width: int, n_tokens: int, device: str) -> tuple[float, float]:
    """Milliseconds per batch to count and keep, reducing included, and MiB of the state at the end."""
    settings = ExtractionSettings(context=LENGTH)
    n_batches = max(1, n_tokens // 2048)
    state = State.empty(width, D_MODEL, settings, 16 * n_batches, device)
    x = torch.randn(2048, D_MODEL, device=device)
    spent = 0.0
    for number in range(n_batches):
        batch, found = _batch(number, x, device), _codes(width, number, device)
        began = time.perf_counter()
        state.update(batch, found, x, 0)
        spent += time.perf_counter() - began
    began = time.perf_counter()
    arrays = state.arrays()
    spent += time.perf_counter() - began
    return spent / n_batches * 1000, sum(a.numel() * a.element_size() for a in arrays.values()) / 2**20


def _batch(number: int, x: Tensor, device: str) -> Batch:
    ids = torch.randint(0, VOCABULARY, (16, LENGTH), generator=torch.Generator().manual_seed(number))
    members = [Context(16 * number + i, "", "", 0, row) for i, row in enumerate(ids.int().numpy())]
    lengths, mask = torch.full((16,), LENGTH), torch.ones(16, LENGTH, dtype=torch.bool)
    shaped = x.view(16, LENGTH, -1)
    return Batch(members, ids.to(device), lengths.to(device), shaped, mask.to(device), n_special=0, n_sinks=0)


def _codes(width: int, number: int, device: str) -> Codes:
    """K features of each token fire, and NEAR_PER_TOKEN others come close."""
    generator = torch.Generator().manual_seed(number)
    n = K + NEAR_PER_TOKEN
    feature = torch.rand(2048, width if width < 8192 else 8192, generator=generator).topk(n).indices
    feature = (feature * (width // feature.shape[1] if width > 8192 else 1) + number) % width
    value = torch.randn(2048, n, generator=generator).exp()
    token = torch.arange(2048)[:, None].expand(2048, n)
    parts = (slice(0, K), slice(K, n))
    triples = [Triples(*(t[:, part].reshape(-1).to(device) for t in (token, feature, value))) for part in parts]
    return Codes(2048, *triples)


def _weights(widths: tuple[int, ...], device: str) -> dict[str, list[float]]:
    """Seconds for what follows from the weights alone, which every SAE pays once."""
    unembedding = torch.randn(VOCABULARY, D_MODEL, device=device)
    model: Any = SimpleNamespace(final_norm=nn.RMSNorm(D_MODEL).to(device), unembedding=unembedding, d_model=D_MODEL)
    works: dict[str, Callable[[SAE], object]] = {
        "logit effects": lambda sae: list(decoder.logit_effects(model, sae)),
        "neighbours": lambda sae: list(decoder.neighbours(sae)),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for width in widths:
        sae = random_sae(width, D_MODEL, 0, device)
        for name, work in works.items():
            began = time.perf_counter()
            work(sae)
            found[name].append(time.perf_counter() - began)
    return found


def _ms(work: Callable[[], object], device: str) -> float:
    """The median of some repeats."""
    times = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        times.append((time.perf_counter() - began) * 1000)
    return float(np.median(times[1:]))
