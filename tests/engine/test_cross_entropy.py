"""Cross entropy recovered, against plain transformers with hooks put in by hand."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
)

from jobs.engine import cross_entropy as module
from jobs.engine.capture import Capture
from jobs.engine.corpus import Context
from jobs.engine.cross_entropy import CrossEntropy, cross_entropy, sample_size
from jobs.engine.model import LoadedModel, load_model
from jobs.engine.saes import SAE, load_sae

LENGTH = 24


@pytest.fixture(scope="module")
def sae(tiny_folder: Path) -> SAE:
    return load_sae(tiny_folder / "sae")


def contexts_of(model: LoadedModel, n: int = 5) -> list[Context]:
    """Texts that the model itself writes, so that it predicts them; two hold special tokens, one is of one token."""
    torch.manual_seed(0)
    start = torch.tensor([[0, 40 + i] for i in range(n)])
    rows = model.engine.hf_model.generate(
        start, attention_mask=torch.ones_like(start), max_new_tokens=LENGTH - 2, min_new_tokens=LENGTH - 2,
        do_sample=True, temperature=0.7, pad_token_id=1, suppress_tokens=[0, 1, 2],
    ).numpy()  # fmt: skip
    rows[1, 7], rows[2, 5:7] = 2, (1, 0)
    ids = [row[: LENGTH - i] for i, row in enumerate(rows)] + [np.array([50])]
    return [Context(i, f"doc-{i}", "", 0, row.astype(np.int32)) for i, row in enumerate(ids)]


@contextmanager
def put(place: nn.Module, side: str, change: Any) -> Iterator[None]:
    """Apply ``change`` to what goes into, or comes out of, ``place``."""
    if side == "input":
        handle = place.register_forward_pre_hook(lambda m, args: (change(args[0]), *args[1:]))
    else:
        handle = place.register_forward_hook(lambda m, args, output: change(output))
    try:
        yield
    finally:
        handle.remove()


def brute_force(
    folder: Path, hook: str, layer: int, sae: SAE, contexts: list[Context], capture: Capture
) -> list[float]:
    """Losses and divergences of every prediction, one version and one position at a time: their means."""
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    special = set(AutoTokenizer.from_pretrained(folder).all_special_ids)
    block = model.model.layers[layer]
    place, side = {"resid_post": (block, "o"), "resid_pre": (block, "input"), "mlp_out": (block.mlp, "o")}[hook]
    found = []
    for context in contexts:
        ids = torch.from_numpy(context.token_ids.astype(np.int64))

        def replaced(x: Tensor, ids: Tensor = ids, *, keep: bool) -> Tensor:
            y = x.clone()
            for at, token in enumerate(ids.tolist()):
                if token not in special and at >= capture.skip_first and x[0, at].norm() <= capture.sink_threshold:
                    y[0, at] = sae(x[0, at][None])[0] if keep else 0
            return y

        logits = []
        with torch.no_grad():
            logits.append(model(ids[None]).logits[0])
            for keep in (True, False):
                with put(place, side, lambda x, keep=keep: replaced(x, keep=keep)):
                    logits.append(model(ids[None]).logits[0])
        p = [row.double().softmax(-1) for row in logits]
        for at in range(len(ids) - 1):
            if (target := int(ids[at + 1])) not in special:
                losses = [-float(q[at, target].log()) for q in p]
                divergences = [float((p[0][at] * (p[0][at] / q[at]).log()).sum()) for q in p[1:]]
                found.append(losses + divergences)
    return [len(found), *np.array(found).mean(0)]


def figures(ce: CrossEntropy | None) -> list[float]:
    assert ce is not None
    return [ce.n_tokens, ce.original, ce.reconstructed, ce.ablated, ce.kl_reconstructed, ce.kl_ablated]


@pytest.mark.parametrize(("hook", "layer"), [("resid_post", 0), ("resid_post", 1), ("resid_pre", 1), ("mlp_out", 0)])
def test_every_figure_is_that_of_brute_force(
    hook: str, layer: int, sae: SAE, tiny_folder: Path, tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_CELLS", 3 * tiny_model.vocab_size * 5)  # five positions at a time
    contexts = contexts_of(tiny_model)
    capture = Capture(tiny_model, hook, layer, skip_first=2)
    capture.calibrate(contexts)
    norms = torch.cat([b.x[b.mask].norm(dim=-1) for b in capture.batches(contexts, 8)])
    capture.sink_threshold = float(norms.sort().values[-4])
    truth = brute_force(tiny_folder / "model", hook, layer, sae, contexts, capture)
    ce = cross_entropy(capture, sae, contexts)
    assert figures(ce) == pytest.approx(truth, rel=1e-4)
    assert ce is not None
    assert ce.n_contexts == 5  # the context of one token predicts nothing
    assert ce.recovered == pytest.approx((ce.ablated - ce.reconstructed) / (ce.ablated - ce.original))
    assert ce.kl_recovered == pytest.approx(1 - ce.kl_reconstructed / ce.kl_ablated)


@pytest.mark.parametrize("hook", ["resid_post", "resid_pre", "mlp_out", "attn_out"])
def test_a_perfect_reconstruction_recovers_everything(
    hook: str, sae: SAE, tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sae, "forward", lambda x: x)
    ce = cross_entropy(Capture(tiny_model, hook, 1), sae, contexts_of(tiny_model))
    assert ce is not None
    assert ce.delta == pytest.approx(0, abs=1e-6)
    assert ce.delta_error == pytest.approx(0, abs=1e-6)
    assert ce.kl_recovered == pytest.approx(1, abs=1e-6)
    assert ce.recovered == pytest.approx(1, abs=1e-6)


def test_zeros_recover_nothing(sae: SAE, tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sae, "forward", torch.zeros_like)
    ce = cross_entropy(Capture(tiny_model, "resid_post", 1), sae, contexts_of(tiny_model))
    assert ce is not None
    assert (ce.recovered, ce.kl_recovered) == pytest.approx((0, 0), abs=1e-6)


def test_what_is_masked_is_left_as_it_is(sae: SAE, tiny_model: LoadedModel) -> None:
    capture = Capture(tiny_model, "resid_post", 1)
    capture.sink_threshold = 0.0  # every token is a sink
    ce = cross_entropy(capture, sae, contexts_of(tiny_model))
    assert ce is not None
    assert ce.original == ce.reconstructed == ce.ablated
    assert (ce.recovered, ce.kl_recovered) == (None, None)


def test_contexts_may_come_in_any_company(sae: SAE, tiny_model: LoadedModel) -> None:
    capture, contexts = Capture(tiny_model, "mlp_out", 1), contexts_of(tiny_model)
    together = figures(cross_entropy(capture, sae, contexts))
    alone = np.array([figures(cross_entropy(capture, sae, [c])) for c in contexts[:-1]])
    assert together == pytest.approx([alone[:, 0].sum(), *(alone[:, 1:].T @ alone[:, 0] / alone[:, 0].sum())])


def test_the_standard_error_is_over_contexts(sae: SAE, tiny_model: LoadedModel) -> None:
    """Of contexts of one length, it is the textbook's standard error of the mean of their deltas."""
    capture = Capture(tiny_model, "resid_post", 0)
    contexts = [Context(c.number, "", "", 0, c.token_ids[:12]) for c in contexts_of(tiny_model)[:1] * 2]
    contexts += [Context(9, "", "", 0, contexts_of(tiny_model)[3].token_ids[:12])]
    single = [cross_entropy(capture, sae, [c]) for c in contexts]
    deltas = [ce.delta for ce in single if ce]
    assert all(ce.delta_error is None for ce in single if ce)
    ce = cross_entropy(capture, sae, contexts)
    assert ce is not None
    assert ce.delta_error == pytest.approx(np.std(deltas, ddof=1) / 3**0.5, rel=1e-4)


def test_points_that_nothing_but_a_norm_reads_are_not_replaced(sae: SAE, tiny_model: LoadedModel) -> None:
    assert cross_entropy(Capture(tiny_model, "resid_mid", 1), sae, contexts_of(tiny_model)) is None


def test_nothing_to_predict_gives_no_figure(sae: SAE, tiny_model: LoadedModel) -> None:
    capture = Capture(tiny_model, "resid_post", 1)
    assert cross_entropy(capture, sae, []) is None
    special = Context(0, "", "", 0, np.array([50, 0, 1, 2], np.int32))
    assert cross_entropy(capture, sae, [special]) is None


OTHERS = [
    # Its ALiBi is shaped by the number of rows; its logits are capped.
    BloomForCausalLM(BloomConfig(vocab_size=330, hidden_size=24, n_layer=2, n_head=4)),
    Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=330, hidden_size=24, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=6, initializer_range=0.6, final_logit_softcapping=2.0,
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize("other", OTHERS, ids=lambda m: m.config.model_type)
def test_other_architectures(other: nn.Module, sae: SAE, tiny_folder: Path, tmp_path: Path) -> None:
    other.save_pretrained(tmp_path)  # type: ignore[operator]
    AutoTokenizer.from_pretrained(tiny_folder / "model").save_pretrained(tmp_path)
    model = load_model(str(tmp_path))
    contexts = contexts_of(model)[:1]
    ids = torch.from_numpy(contexts[0].token_ids.astype(np.int64))[None]
    block = model.arch.block(0)
    with torch.no_grad():
        original = model.engine.hf_model(ids, labels=ids).loss
        keep = torch.arange(ids.shape[1])[None, :, None] < 1  # the special token
        zero = block.register_forward_hook(lambda m, a, o: (o[0] * keep, *o[1:]) if isinstance(o, tuple) else o * keep)
        ablated = model.engine.hf_model(ids, labels=ids).loss
        zero.remove()
    ce = cross_entropy(Capture(model, "resid_post", 0), sae, contexts)
    assert ce is not None
    assert (ce.original, ce.ablated) == pytest.approx((float(original), float(ablated)), rel=1e-4)


@pytest.mark.parametrize(("n", "size"), [(0, 0), (3, 3), (4, 4), (2048, 4), (2049, 5), (78_125, 153)])
def test_the_sample_is_one_context_in_512_and_four_at_least(n: int, size: int) -> None:
    assert sample_size(n) == size
