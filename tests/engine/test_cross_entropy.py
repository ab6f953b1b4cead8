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
from tests.engine import tiny
from tests.engine.families import FAMILIES, load

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
    """Losses and divergences of every prediction, one version and one position at a time: their means.

    ``hook`` "transcoder" reads what the MLP reads and writes what it gives.
    """
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    special = set(AutoTokenizer.from_pretrained(folder).all_special_ids)
    block = model.model.layers[layer]
    place, side = {
        "resid_post": (block, "o"),
        "resid_pre": (block, "input"),
        "mlp_out": (block.mlp, "o"),
        "transcoder": (block.mlp, "o"),
        "z": (block.self_attn.o_proj, "input"),
        "mlp_act": (block.mlp.down_proj, "input"),
        "embeddings": (model.model.embed_tokens, "o"),
    }[hook]
    found = []
    block.mlp.register_forward_pre_hook(lambda m, args: read.append(args[0]))
    read: list[Tensor] = []
    for context in contexts:
        ids = torch.from_numpy(context.token_ids.astype(np.int64))

        def replaced(old: Tensor, ids: Tensor = ids, *, keep: bool) -> Tensor:
            y, x = old.clone(), read[-1] if hook == "transcoder" else old
            for at, token in enumerate(ids.tolist()):
                mean = x[0, at].mean() if capture.centred else 0
                seen = x[0, at] - mean
                if token not in special and at >= capture.skip_first and seen.norm() <= capture.sink_threshold:
                    y[0, at] = (sae(seen[None])[0] if keep else 0) + (0 if hook == "transcoder" else mean)
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


OTHER_SITES = [
    ("transcoder", 0, 24, 24, False),
    ("transcoder", 1, 24, 24, True),
    ("z", 0, 24, None, False),
    ("mlp_act", 1, 48, None, False),
    ("embeddings", 0, 24, None, False),
    ("resid_pre", 1, 24, None, True),
]


@pytest.mark.parametrize(("hook", "layer", "d_in", "d_out", "centred"), OTHER_SITES)
def test_other_sites_are_those_of_brute_force(
    hook: str, layer: int, d_in: int, d_out: int | None, centred: bool, tiny_folder: Path, tiny_model: LoadedModel
) -> None:
    sae = tiny.random_sae(d_in, d_out, skip=True)
    contexts = contexts_of(tiny_model)
    at, hook_out = ("mlp_in", "mlp_out") if hook == "transcoder" else (hook, None)
    capture = Capture(tiny_model, at, layer, 1, hook_out=hook_out, centred=centred)
    norms = torch.cat([b.x[b.mask].norm(dim=-1) for b in capture.batches(contexts, 8)])
    capture.sink_threshold = float(norms.sort().values[-4])
    truth = brute_force(tiny_folder / "model", hook, layer, sae, contexts, capture)
    assert figures(cross_entropy(capture, sae, contexts)) == pytest.approx(truth, rel=1e-4)
    assert truth[4] > 1e-3


SITES = [
    ("resid_post", 1),
    ("resid_pre", 1),
    ("mlp_out", 1),
    ("attn_out", 1),
    ("z", 1),
    ("mlp_act", 1),
    ("embeddings", 0),
]


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("site", SITES, ids=str)
def test_a_perfect_reconstruction_recovers_everything(
    site: tuple[str, int], centred: bool, sae: SAE, tiny_model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sae, "forward", lambda x: x)
    ce = cross_entropy(Capture(tiny_model, *site, centred=centred), sae, contexts_of(tiny_model))
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


@pytest.mark.parametrize("hook", ["resid_mid", "mlp_in", "mlp_in_normalized", "self_attn.q_proj.input"])
def test_points_that_the_residual_stream_runs_past_are_not_replaced(
    hook: str, sae: SAE, tiny_model: LoadedModel
) -> None:
    assert cross_entropy(Capture(tiny_model, hook, 1), sae, contexts_of(tiny_model)) is None


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


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_no_family_minds_three_rows_in_the_place_of_one(family: Any, tmp_path: Path) -> None:
    """At each point, and in the mixtures' shared expert, where the tokens of all rows come in one."""
    model = load(family, tmp_path)
    sae = tiny.random_sae(16)
    sae.forward = lambda x: x  # type: ignore[method-assign]
    tokens = np.array([0, *np.random.default_rng(0).integers(3, 300, size=11)], np.int32)
    contexts = [Context(0, "", "", 0, tokens)]
    points = ["resid_pre", "resid_post", "attn_out", "mlp_out", "z"]
    points += ["mlp.shared_expert.output"] if family.name == "Qwen2Moe" else []
    for hook in points:
        capture = Capture(model, hook, 2)
        ce = cross_entropy(capture, sae, contexts)
        assert ce is not None
        ids = torch.from_numpy(tokens.astype(np.int64))[None]
        keep = (ids == 0)[0][:, None]
        with torch.no_grad():
            original = model.engine.hf_model(ids, labels=ids).loss
            with put(*capture.point.place, lambda x, keep=keep: zeroed(x, keep)):
                ablated = model.engine.hf_model(ids, labels=ids).loss
        want = [float(original), float(original), float(ablated)]
        assert [ce.original, ce.reconstructed, ce.ablated] == pytest.approx(want, rel=1e-4)


def zeroed(x: Any, keep: Tensor) -> Any:
    return (x[0] * keep, *x[1:]) if isinstance(x, tuple) else x * keep


@pytest.mark.parametrize(("n", "size"), [(0, 0), (3, 3), (4, 4), (2048, 4), (2049, 5), (78_125, 153)])
def test_the_sample_is_one_context_in_512_and_four_at_least(n: int, size: int) -> None:
    assert sample_size(n) == size
