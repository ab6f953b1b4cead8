"""Extraction against brute force over the whole activation matrix: ties, masked tokens and repeated texts included."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from jobs.engine.capture import Batch, Capture
from jobs.engine.corpus import Context, cut_contexts, read_corpus
from jobs.engine.errors import SettingsError
from jobs.engine.evaluate import Evaluation, evaluate
from jobs.engine.examples import NEAR, QUARTERS, SILENT, band_edges, select_examples
from jobs.engine.extraction import ExtractionSettings, Step, check_fit, extract, plan_batches
from jobs.engine.model import LoadedModel
from jobs.engine.saes import SAE, load_sae
from jobs.engine.state import State, merge_all
from jobs.engine.statistics import FIRST_BIN, N_BINS, PER_OCTAVE
from tests.engine import tiny
from tests.engine.brute_force import Seen, feature_truth, histogram_truth, quality_truth
from tests.engine.families import FAMILIES, N_EXPERTS, load

SETTINGS = ExtractionSettings(context=32, top=10, per_band=3, reservoir=5, batch=8 * 32)


@pytest.fixture(scope="module", params=["topk", "jumprelu"])
def sae(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SAE:
    return load_sae(tiny.write_sae(tmp_path_factory.mktemp("sae") / "sae", architecture=request.param))


@pytest.fixture(scope="module")
def capture(tiny_model: LoadedModel) -> Capture:
    return Capture(tiny_model, "resid_post", tiny.HOOK_LAYER)


@pytest.fixture(scope="module")
def contexts(tiny_folder: Path, tiny_model: LoadedModel, capture: Capture) -> list[Context]:
    found = list(cut_contexts(read_corpus(tiny_folder / "corpus.jsonl"), tiny_model.tokenize, SETTINGS.context))
    capture.calibrate(found[:64])
    # A sink in the middle: lower the bar until the largest unmasked norms are above it.
    norms = torch.cat([b.x[b.mask].norm(dim=-1) for b in capture.batches(found, 8)])
    capture.sink_threshold = float(norms.sort().values[-6])
    return found


@pytest.fixture(scope="module")
def batches(contexts: list[Context]) -> list[np.ndarray]:
    return plan_batches(np.array([len(c.token_ids) for c in contexts]), SETTINGS, tiny.D_SAE)


@pytest.fixture(scope="module")
def state(capture: Capture, sae: SAE, contexts: list[Context], batches: list[np.ndarray]) -> State:
    return last(list(extract(capture, sae, contexts, batches, SETTINGS)))


@pytest.fixture(scope="module")
def seen(capture: Capture, sae: SAE, contexts: list[Context], batches: list[np.ndarray]) -> list[Seen]:
    """The whole matrix. Batches as in the run, so that values agree to the last bit; see the next test for the rest."""
    found = []
    for members in batches:
        batch = capture.run([contexts[i] for i in members])
        acts = torch.zeros(*batch.mask.shape, sae.d_sae)
        x_hat = torch.zeros_like(batch.x)
        acts[batch.mask] = sae.encode(batch.x[batch.mask])
        x_hat[batch.mask] = sae.decode(acts[batch.mask])
        for i, context in enumerate(batch.contexts):
            length = len(context.token_ids)
            arrays = (t[i, :length].numpy() for t in (acts, batch.x, x_hat, batch.mask))
            found.append(Seen(context, *arrays))
    return found


def last(steps: list[Step]) -> State:
    assert [s.state for s in steps[:-1]] == [None] * (len(steps) - 1)
    assert steps[-1].state is not None
    return steps[-1].state


def test_captured_activations_are_the_hidden_states_of_transformers(
    tiny_folder: Path, seen: list[Seen], tiny_model: LoadedModel
):
    model = AutoModelForCausalLM.from_pretrained(tiny_folder / "model")
    outputs: list[Any] = []
    captured = model.model.layers[tiny.HOOK_LAYER].register_forward_hook(lambda m, i, o: outputs.append(o))
    for one in seen:
        outputs.clear()
        with torch.no_grad():
            model(torch.from_numpy(one.context.token_ids.astype(np.int64))[None])
        out = outputs[0][0] if isinstance(outputs[0], tuple) else outputs[0]
        np.testing.assert_allclose(one.x, out.reshape(one.x.shape).numpy(), rtol=1e-4, atol=1e-4)
    captured.remove()


def test_the_mask_leaves_out_special_tokens_and_sinks_and_counts_them(
    seen: list[Seen], state: State, tiny_model: LoadedModel
):
    ids = np.concatenate([s.context.token_ids for s in seen])
    mask = np.concatenate([s.mask for s in seen])
    special = np.isin(ids, list(tiny_model.special_ids))
    assert special.sum() > 45  # <bos> of every document, and the markers inside one
    assert not (mask & special).any()
    n_sinks = int((~mask & ~special).sum())
    assert n_sinks == 5
    assert state.counts.tolist() == [45, len(seen), int(special.sum()), n_sinks]
    assert state.quality.n_tokens == int(mask.sum())


def test_counts_maxima_and_histograms_are_exact(seen: list[Seen], state: State, sae: SAE):
    edges = np.exp2((FIRST_BIN + np.arange(N_BINS + 1)) / PER_OCTAVE).astype(np.float32)
    for feature in range(sae.d_sae):
        truth = feature_truth(seen, feature)
        assert int(state.sums.n_firing[feature]) == truth.n_firing
        assert int(state.sums.n_contexts[feature]) == truth.n_contexts
        counted = state.sums.histogram[feature * N_BINS : (feature + 1) * N_BINS].tolist()
        assert counted == histogram_truth(truth.firings, edges)
        assert sum(counted) == truth.n_firing
        assert float(state.sums.totals()[feature]) == pytest.approx(sum(map(float, truth.firings)), rel=1e-12)
        squares = sum(float(v) ** 2 for v in truth.firings)
        assert float(state.sums.totals_square()[feature]) == pytest.approx(squares, rel=1e-12)


def test_examples_are_exact(seen: list[Seen], state: State, sae: SAE):
    selection = select_examples(state, SETTINGS.per_band)
    lengths = np.cumsum(selection.rows.length) - selection.rows.length
    for feature in range(sae.d_sae):
        ranked = feature_truth(seen, feature).ranked
        rows = range(*selection.of(feature).indices(len(selection.rows)))
        top = [r for r in rows if selection.band[r] == 0]
        assert len(top) == min(SETTINGS.top, len(ranked))
        for row, (number, peak, maximum, values, _) in zip(top, ranked, strict=False):
            assert (selection.rows.context[row], selection.rows.peak[row]) == (number, peak)
            assert selection.rows.value[row] == maximum
            cut = slice(lengths[row], lengths[row] + selection.rows.length[row])
            stored = dict(zip(selection.rows.positions[cut].tolist(), selection.rows.values[cut], strict=True))
            assert stored == values


def test_bands_hold_other_texts_of_the_right_range(seen: list[Seen], state: State, sae: SAE):
    selection = select_examples(state, SETTINGS.per_band)
    edges = band_edges(state.sums.histogram.numpy().reshape(-1, N_BINS))
    some = 0
    for feature in range(sae.d_sae):
        truth = feature_truth(seen, feature)
        shown = np.arange(len(selection.rows))[selection.of(feature)]
        shown = shown[selection.band[shown] < NEAR]
        rows, bands = selection.rows.take(shown), selection.band[shown]
        assert len(set(rows.priority.tolist())) == len(rows)
        others = {row[0]: row for row in truth.ranked[SETTINGS.top :]}
        limits = [np.inf, *edges[feature], 0]
        for quarter, edge in zip(QUARTERS, edges[feature], strict=True):
            below = np.mean([v < edge for v in truth.firings] or [0])
            assert below <= quarter
        for band in range(1, 5):
            members = rows.take(np.flatnonzero(bands == band))
            assert len(members) <= SETTINGS.per_band
            some += len(members)
            for context, value in zip(members.context.tolist(), members.value.tolist(), strict=True):
                assert others[context][2] == np.float32(value)
                assert limits[band] <= value < limits[band - 1]
    assert some > 100


def test_twins_tie_everywhere(state: State, sae: SAE):
    """Features 0 and 1 of the SAE are the same, so all their values tie, and their examples come in one order."""
    if sae.architecture == "topk":
        pytest.skip("with TopK one twin may be the last that fits")
    first, second = (state.rows.take((state.rows.feature == f).nonzero().squeeze(1)) for f in (0, 1))
    assert len(first) > SETTINGS.top
    for name in ("context", "value", "peak", "length", "positions", "values"):
        best = slice(SETTINGS.top) if name not in {"positions", "values"} else slice(int(first.length[:10].sum()))
        assert torch.equal(getattr(first, name)[best], getattr(second, name)[best]), name


def test_quality_is_exact(seen: list[Seen], state: State):
    found = state.quality.result()
    for name, value in quality_truth(seen).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9), name


def test_dead_features_have_nothing(state: State, sae: SAE):
    for feature in range(sae.d_sae - 4, sae.d_sae):
        assert int(state.sums.n_firing[feature]) == 0
        assert not (state.rows.feature == feature).any()


def test_near_misses_and_silent_contexts_are_silent(seen: list[Seen], state: State, sae: SAE):
    selection = select_examples(state, SETTINGS.per_band)
    by_number = {s.context.number: s for s in seen}
    ends = np.cumsum(selection.rows.length.astype(int))
    kinds = {NEAR: 0, SILENT: 0}
    for row in np.flatnonzero(selection.band >= NEAR):
        one = by_number[int(selection.rows.context[row])]
        feature = int(selection.rows.feature[row])
        assert not one.acts[one.mask, feature].any()
        kinds[int(selection.band[row])] += 1
        if selection.band[row] == NEAR:
            peak, value = int(selection.rows.peak[row]), float(selection.rows.value[row])
            p = sae.pre_activations(torch.from_numpy(one.x[None, peak])).numpy()[0]
            assert one.mask[peak]
            assert p[feature] == pytest.approx(value, rel=1e-4)
            assert selection.rows.positions[ends[row] - 1] == peak
    assert kinds[NEAR] > 3
    assert kinds[SILENT] > 50


def test_shards_merge_to_the_same_bytes_in_any_order(
    capture: Capture, sae: SAE, contexts: list[Context], batches: list[np.ndarray], state: State
):
    cuts = [0, 1, 4, 5, len(batches) - 2, len(batches)]
    shards = [batches[low:high] for low, high in pairwise(cuts)]
    states = [last(list(extract(capture, sae, contexts, shard, SETTINGS))) for shard in shards]
    for order in np.random.default_rng(0).permuted([range(len(states))] * 3, axis=1):
        again = merge_all(State.from_arrays(states[i].arrays()) for i in order)
        assert again is not None
        want, got = state.arrays(), again.arrays()
        assert want.keys() == got.keys()
        for name in want:
            assert torch.equal(got[name], want[name]), name


def test_batches_hold_every_context_once_and_few_paddings(batches: list[np.ndarray], contexts: list[Context]):
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(contexts)))
    lengths = np.array([len(c.token_ids) for c in contexts])
    assert all(lengths[members].max() * len(members) <= SETTINGS.batch for members in batches)
    padded = sum(lengths[members].max() * len(members) for members in batches)
    assert padded < 1.05 * lengths.sum()


def test_out_of_memory_halves_the_batch_and_goes_on(
    capture: Capture, sae: SAE, contexts: list[Context], batches: list[np.ndarray], state: State,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    run = capture.run

    def small_device(members: list[Context]) -> Batch:
        if len(members) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(members)

    monkeypatch.setattr(capture, "run", small_device)
    steps = list(extract(capture, sae, contexts, batches, SETTINGS))
    assert {s.halved for s in steps} <= {2, 3}
    assert steps[-1].n_contexts == len(contexts)
    assert steps[-1].n_tokens == sum(len(c.token_ids) for c in contexts)
    found = last(steps)
    assert found.counts.tolist() == state.counts.tolist()
    assert found.quality.n_tokens == state.quality.n_tokens
    np.testing.assert_allclose(found.sums.totals(), state.sums.totals(), rtol=1e-4)


def test_a_context_that_does_not_fit_alone_is_an_error(
    capture: Capture, sae: SAE, contexts: list[Context], batches: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
):
    def no_device(members: list[Context]) -> Batch:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(capture, "run", no_device)
    with pytest.raises(torch.OutOfMemoryError):
        list(extract(capture, sae, contexts, batches, SETTINGS))


OTHERS = [
    ("mlp_in", "mlp_out", 24, 24),
    ("mlp_in_normalized", "resid_post", 24, 24),
    ("resid_mid", "mlp_act", 24, 48),
    ("z", None, 24, None),
    ("mlp_act", None, 48, None),
    ("mlp.gate_proj.output", None, 48, None),
]


@pytest.mark.parametrize(("hook", "hook_out", "d_in", "d_out"), OTHERS)
def test_transcoders_and_other_widths_are_exact(
    tiny_model: LoadedModel, contexts: list[Context], batches: list[np.ndarray],
    hook: str, hook_out: str | None, d_in: int, d_out: int | None,
):  # fmt: skip
    sae = tiny.random_sae(d_in, d_out, skip=d_out is not None)
    capture = Capture(tiny_model, hook, 1, hook_out=hook_out)
    found = last(list(extract(capture, sae, contexts, batches, SETTINGS)))
    read, write = Capture(tiny_model, hook, 1), Capture(tiny_model, hook_out or hook, 1)
    seen = []
    for members in batches:
        x, y = (side.run([contexts[i] for i in members]) for side in (read, write))
        acts, y_hat = torch.zeros(*x.mask.shape, sae.d_sae), torch.zeros_like(y.x)
        acts[x.mask] = sae.encode(x.x[x.mask])
        y_hat[x.mask] = sae.decode(acts[x.mask], x.x[x.mask])
        for i, context in enumerate(x.contexts):
            arrays = (t[i, : len(context.token_ids)].numpy() for t in (acts, y.x, y_hat, x.mask))
            seen.append(Seen(context, *arrays))
    assert found.sums.n_firing.tolist() == [feature_truth(seen, f).n_firing for f in range(sae.d_sae)]
    quality = found.quality.result()
    for name, value in quality_truth(seen).items():
        assert getattr(quality, name) == pytest.approx(value, rel=1e-5), name
    measured = list(evaluate(capture, sae, contexts))[-1]
    assert isinstance(measured, Evaluation)
    assert measured.quality.explained_variance == pytest.approx(quality.explained_variance, rel=1e-4)


@pytest.mark.parametrize("experts", [False, True])
def test_a_mixture_counts_the_experts_of_the_tokens_that_fire(
    tmp_path: Path, contexts: list[Context], batches: list[np.ndarray], experts: bool
):
    model = load(next(family for family in FAMILIES if family.name == "Olmoe"), tmp_path)
    capture, sae = Capture(model, "mlp_in", 1, experts=experts), tiny.random_sae(16)
    found = last(list(extract(capture, sae, contexts, batches, SETTINGS)))
    assert (found.experts is not None) == any("experts" in name for name in found.arrays()) == experts
    if found.experts is None:
        return
    together, n_tokens = torch.zeros(sae.d_sae, N_EXPERTS, dtype=torch.int64), 0
    for members in batches:
        batch = capture.run([contexts[i] for i in members])
        assert batch.experts is not None
        chosen = torch.zeros(*batch.mask.shape, N_EXPERTS).scatter_(-1, batch.experts, 1)[batch.mask]
        together += ((sae.encode(batch.x[batch.mask]) > 0).float().T @ chosen).long()
        n_tokens += len(chosen)
    assert capture.router_layer == 0
    assert torch.equal(found.experts.together, together)
    assert int(found.experts.n_tokens) == n_tokens == found.quality.n_tokens


def test_a_transcoder_that_writes_another_width_is_refused(tiny_model: LoadedModel):
    capture = Capture(tiny_model, "mlp_in", 1, hook_out="mlp_out")
    with pytest.raises(SettingsError) as refused:
        check_fit(tiny.random_sae(24, 32), capture, 32)
    assert str(refused.value) == (
        "The SAE tiny writes vectors of width 32 (d_out), but model has width 24 at mlp_out of layer 1: "
        "it was trained on another model or hook point."
    )
    with pytest.raises(SettingsError, match="tiny is a transcoder, but nothing says at which hook point it writes"):
        check_fit(tiny.random_sae(24, 24), Capture(tiny_model, "mlp_in", 1), 32)


def test_an_sae_of_another_width_is_refused(capture: Capture, tmp_path: Path):
    sae = load_sae(tiny.write_sae(tmp_path / "wide", d_in=32))
    with pytest.raises(SettingsError, match=r"wide reads vectors of width 32 .* has width 24"):
        next(extract(capture, sae, [], [], SETTINGS))


def test_a_layer_that_does_not_exist_is_refused(tiny_model: LoadedModel):
    with pytest.raises(SettingsError, match="Layer 7 does not exist in model: it has 2 layers, 0 to 1"):
        Capture(tiny_model, "resid_post", 7)


def test_skipped_positions_are_masked_and_counted_as_sinks(tiny_model: LoadedModel, contexts: list[Context]):
    plain = Capture(tiny_model, "resid_post", tiny.HOOK_LAYER)
    skipping = Capture(tiny_model, "resid_post", tiny.HOOK_LAYER, skip_first=2)
    before, after = plain.run(contexts[:8]), skipping.run(contexts[:8])
    assert not after.mask[:, :2].any()
    assert torch.equal(after.mask[:, 2:], before.mask[:, 2:])
    assert after.n_sinks == int(before.mask[:, :2].sum())
    assert after.n_special == before.n_special
