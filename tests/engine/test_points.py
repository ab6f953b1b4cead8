"""Hook points that are no plain words: paths, refusals, transcoders' two points, widths of all kinds."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from jobs.engine.capture import Batch, Capture
from jobs.engine.corpus import Context
from jobs.engine.errors import SettingsError
from jobs.engine.model import LoadedModel
from jobs.engine.points import hook_points, resolve
from tests.engine import tiny
from tests.engine.families import D_MODEL, FAMILIES, N_LAYERS, Family, load


def of(name: str) -> Family:
    return next(family for family in FAMILIES if family.name == name)


@pytest.fixture(scope="module")
def contexts() -> list[Context]:
    ids = np.random.default_rng(0).integers(3, 300, size=(3, 8)).astype(np.int32)
    return [Context(i, "", "", 0, row[: 8 - i]) for i, row in enumerate(ids)]


@pytest.fixture
def log(tiny_model: LoadedModel) -> Iterator[list[int]]:
    """The blocks that have run to their end."""
    ran: list[int] = []
    handles = [
        tiny_model.arch.block(layer).register_forward_hook(lambda m, a, o, layer=layer: ran.append(layer))
        for layer in range(tiny.N_LAYERS)
    ]
    yield ran
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    ("hook", "layer", "reason"),
    [
        ("resid_mild", 1, "which knows no point of that name"),
        ("mlp", 1, "which knows no point of that name"),
        (".output", 0, "which knows no point of that name"),
        ("mlp.gate.output", 1, "whose block has no such module there"),
        ("attn.hook_q", 1, "which knows no point of that name"),
        ("mlp.hook_q.input", 1, "whose block has no such module there"),
        ("embeddings", 1, "whose embeddings come before layer 0: give layer 0"),
        ("x" * 200, 0, "which knows no point of that name"),
    ],
)
def test_an_unknown_point_is_refused_in_one_sentence(tiny_model: LoadedModel, hook: str, layer: int, reason: str):
    with pytest.raises(SettingsError) as refused:
        resolve(tiny_model, hook, layer)
    words = "resid_pre, resid_mid, resid_post, attn_out, z, mlp_in, mlp_in_normalized, mlp_act, mlp_out"
    words = words if layer else f"embeddings, {words}"
    assert str(refused.value) == (
        f"The hook point {hook[:80]} of layer {layer} is not in model, {reason}; that layer has {words}."
    )


@pytest.mark.parametrize("layer", [-1, 2, 7])
def test_a_layer_out_of_range_is_refused(tiny_model: LoadedModel, layer: int):
    with pytest.raises(SettingsError, match=rf"Layer {layer} does not exist in model: it has 2 layers, 0 to 1\."):
        resolve(tiny_model, "resid_post", layer)


def test_a_point_without_a_vector_for_each_token_is_refused(tmp_path: Path):
    model = load(of("Qwen3"), tmp_path)
    with pytest.raises(SettingsError, match=r"carries no vector for each token but \[2, 3, 4, 6\]; that layer has"):
        resolve(model, "self_attn.q_norm.output", 0)


def test_a_module_inside_the_mlp_has_its_own_width(tiny_model: LoadedModel, contexts: list[Context]):
    gate, up, act = (
        Capture(tiny_model, f"mlp.{m}.output", 1).run(contexts).x for m in ("gate_proj", "up_proj", "act_fn")
    )
    assert gate.shape == (3, 8, 48)
    torch.testing.assert_close(act, torch.nn.functional.silu(gate))
    torch.testing.assert_close(Capture(tiny_model, "mlp_act", 1).run(contexts).x, act * up)


def test_the_tokens_of_a_shared_expert_come_back_by_context(tmp_path: Path, contexts: list[Context]):
    """Inside the block they are one row."""
    model = load(of("Qwen2Moe"), tmp_path)
    capture = Capture(model, "mlp.shared_expert.down_proj.input", 2)
    assert capture.point.width == 20
    found, mlp_in = capture.run(contexts).x, Capture(model, "mlp_in", 2).run(contexts).x
    expert = model.arch.block(2).mlp.shared_expert
    torch.testing.assert_close(found, expert.act_fn(expert.gate_proj(mlp_in)) * expert.up_proj(mlp_in))


def test_sublayers_whose_output_is_scaled_count_as_they_are_added(tmp_path: Path, contexts: list[Context]):
    model = load(Family("Granite", {"residual_multiplier": 0.25}), tmp_path)
    at = {hook: Capture(model, hook, 1).run(contexts).x for hook in ("resid_pre", "attn_out", "mlp_out", "resid_post")}
    torch.testing.assert_close(at["resid_pre"] + at["attn_out"] + at["mlp_out"], at["resid_post"])
    raw = Capture(model, "mlp.output", 1)
    assert raw.hook == "mlp.output"
    torch.testing.assert_close(raw.run(contexts).x * 0.25, at["mlp_out"])


def test_where_no_norm_is_before_the_mlp_it_reads_the_stream(tmp_path: Path, contexts: list[Context]):
    model = load(dataclasses.replace(of("Qwen3"), name="Olmo2"), tmp_path)
    mid, mlp_in = (Capture(model, hook, 1).run(contexts).x for hook in ("resid_mid", "mlp_in"))
    assert torch.equal(mid, mlp_in)
    with pytest.raises(SettingsError, match="which has no norm of its own before its MLP"):
        resolve(model, "mlp_in_normalized", 1)


def test_hooks_whose_width_differs_by_layer_come_once_for_each(tmp_path: Path):
    model = load(of("Llama"), tmp_path)
    mlp = model.arch.block(1).mlp
    mlp.gate_proj, mlp.up_proj, mlp.down_proj = nn.Linear(16, 30), nn.Linear(16, 30), nn.Linear(30, 16)
    found = [row for row in hook_points(model) if row["hook"] == "mlp_act"]
    assert found == [
        {"hook": "mlp_act", "width": 24, "layers": [0, 2, 2]},  # two layers, not a run of three
        {"hook": "mlp_act", "width": 30, "layers": [1, 1]},
    ]


PAIRS = [
    (("mlp_in", 1), ("mlp_out", 1)),
    (("mlp_in_normalized", 0), ("mlp_out", 0)),
    (("resid_pre", 0), ("resid_post", 1)),
    (("resid_mid", 1), ("mlp_act", 1)),
    (("embeddings", 0), ("z", 1)),
    (("resid_post", 1), ("resid_post", 1)),
]


@pytest.mark.parametrize(("read", "written"), PAIRS)
def test_both_points_of_a_transcoder_are_read_in_one_pass(
    tiny_model: LoadedModel, contexts: list[Context], log: list[int], read: tuple[str, int], written: tuple[str, int]
):
    capture = Capture(tiny_model, *read, hook_out=written[0], layer_out=written[1], skip_first=1)
    log.clear()
    batch = capture.run(contexts)
    # The block itself is not through when the pass ends inside it or, for this hook registered first, at its end.
    assert log == ([0] if written[1] else []) + ([1] if written == ("resid_post", 1) else [])
    x, y = (Capture(tiny_model, *point, skip_first=1).run(contexts) for point in (read, written))
    assert torch.equal(batch.x, x.x)
    assert torch.equal(batch.y, y.x)
    assert torch.equal(batch.mask, x.mask)
    assert (capture.point.hook, capture.point.layer) == read
    assert capture.point_out is not None
    assert (capture.point_out.hook, capture.point_out.layer) == written


def test_the_layer_written_is_the_layer_read_unless_given(tiny_model: LoadedModel):
    capture = Capture(tiny_model, "mlp_in", 1, hook_out="mlp_out")
    assert capture.point_out is not None
    assert capture.point_out.layer == 1


@pytest.mark.parametrize(
    ("read", "written"),
    [(("mlp_out", 1), ("mlp_in", 1)), (("mlp_in", 1), ("mlp_out", 0)), (("z", 0), ("embeddings", 0))],
)
def test_a_transcoder_that_writes_before_it_reads_is_refused(tiny_model: LoadedModel, read, written):
    with pytest.raises(SettingsError) as refused:
        Capture(tiny_model, *read, hook_out=written[0], layer_out=written[1])
    assert str(refused.value) == (
        f"The transcoder would write {written[0]} of layer {written[1]}, which model computes before the {read[0]} "
        f"of layer {read[1]} that it reads."
    )


def test_what_was_read_is_safe_from_modules_that_write_over_it(tiny_model: LoadedModel, contexts: list[Context]):
    capture = Capture(tiny_model, "mlp_in", 1, hook_out="mlp_out")
    before = capture.run(contexts)

    def overwrite(module: nn.Module, args: tuple[torch.Tensor], output: torch.Tensor) -> None:
        args[0].zero_()

    handle = tiny_model.arch.block(1).mlp.gate_proj.register_forward_hook(overwrite)
    after = capture.run(contexts)
    handle.remove()
    assert torch.equal(after.x, before.x)
    assert not torch.equal(after.y, before.y)


def test_centring_takes_the_mean_off_what_the_sae_sees(tiny_model: LoadedModel, contexts: list[Context]):
    def run(**options) -> Batch:
        return Capture(tiny_model, "resid_pre", 1, **options).run(contexts)

    plain, centred = run(), run(centred=True)
    mean = plain.x.mean(-1, keepdim=True)
    torch.testing.assert_close(centred.x, plain.x - mean)
    assert torch.equal(centred.y, centred.x)
    assert centred.mean is not None
    torch.testing.assert_close(centred.mean, mean)
    transcoder = run(centred=True, hook_out="resid_post")
    assert torch.equal(transcoder.x, centred.x)
    assert torch.equal(transcoder.y, Capture(tiny_model, "resid_post", 1).run(contexts).x)
    assert transcoder.mean is None


def test_sinks_are_measured_by_what_the_sae_sees(tiny_model: LoadedModel, contexts: list[Context]):
    capture = Capture(tiny_model, "resid_pre", 1, centred=True)
    capture.calibrate(contexts)
    norms = torch.cat([b.x[b.mask].norm(dim=-1) for b in capture.batches(contexts, 8)])
    assert capture.sink_threshold == pytest.approx(10 * float(norms.median()))


def test_paths_take_part_in_both_halves_of_a_transcoder(tmp_path: Path, contexts: list[Context]):
    model = load(of("Gemma2"), tmp_path)
    capture = Capture(
        model, "pre_feedforward_layernorm.output", 2, hook_out="post_feedforward_layernorm.output", experts=True
    )
    assert capture.hook == "pre_feedforward_layernorm.output"
    assert capture.point_out == resolve(model, "mlp_out", 2)
    batch = capture.run(contexts)
    assert torch.equal(batch.x, Capture(model, "mlp_in", 2).run(contexts).x)
    assert batch.y.shape == (3, 8, D_MODEL)
    assert (capture.router_layer, batch.experts, N_LAYERS) == (None, None, 3)
