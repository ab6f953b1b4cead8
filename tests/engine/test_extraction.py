"""Extraction against brute force over the whole activation matrix: ties, masked tokens and repeated texts included."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from jobs.engine.capture import Capture
from jobs.engine.corpus import Context, cut_contexts, read_corpus
from jobs.engine.errors import SettingsError
from jobs.engine.examples import QUARTERS, band_edges, select_examples
from jobs.engine.extraction import ExtractionSettings, extract
from jobs.engine.model import LoadedModel
from jobs.engine.saes import SAE, load_sae
from jobs.engine.state import State
from jobs.engine.statistics import FIRST_BIN, N_BINS, PER_OCTAVE
from tests.engine import tiny
from tests.engine.brute_force import Seen, feature_truth, histogram_truth, quality_truth

SETTINGS = ExtractionSettings(context=32, top=10, per_band=3, reservoir=5, batch=8 * 32, shard=48)


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
def state(capture: Capture, sae: SAE, contexts: list[Context]) -> State:
    return merged([step.state for step in extract(capture, sae, contexts, SETTINGS) if step.state])


@pytest.fixture(scope="module")
def seen(capture: Capture, sae: SAE, contexts: list[Context]) -> list[Seen]:
    """The whole matrix. Batches as in the run, so that values agree to the last bit; see the next test for the rest."""
    found = []
    for start in range(0, len(contexts), SETTINGS.shard):
        for batch in capture.batches(contexts[start : start + SETTINGS.shard], 8):
            acts = torch.zeros(*batch.mask.shape, sae.d_sae)
            x_hat = torch.zeros_like(batch.x)
            acts[batch.mask] = sae.encode(batch.x[batch.mask])
            x_hat[batch.mask] = sae.decode(acts[batch.mask])
            for i, context in enumerate(batch.contexts):
                length = len(context.token_ids)
                arrays = (t[i, :length].numpy() for t in (acts, batch.x, x_hat, batch.mask))
                found.append(Seen(context, *arrays))
    return found


def merged(states: list[State]) -> State:
    first, *others = states
    for other in others:
        first.merge(other)
    return first


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
        assert float(state.sums.total[feature]) == pytest.approx(sum(map(float, truth.firings)), rel=1e-12)


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
        rows = selection.rows.take(np.arange(len(selection.rows))[selection.of(feature)])
        bands = selection.band[selection.of(feature)]
        assert len(set(rows.key.tolist())) == len(rows)
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
    first, second = (state.rows.take(np.flatnonzero(state.rows.feature == f)) for f in (0, 1))
    assert len(first) > SETTINGS.top
    for name in ("context", "value", "peak", "key", "length", "positions", "values"):
        best = slice(SETTINGS.top) if name not in {"positions", "values"} else slice(int(first.length[:10].sum()))
        np.testing.assert_array_equal(getattr(first, name)[best], getattr(second, name)[best])


def test_quality_is_exact(seen: list[Seen], state: State):
    found = state.quality.result()
    for name, value in quality_truth(seen).items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-9), name


def test_dead_features_have_nothing(state: State, sae: SAE):
    for feature in range(sae.d_sae - 4, sae.d_sae):
        assert int(state.sums.n_firing[feature]) == 0
        assert not (state.rows.feature == feature).any()


def test_shards_merge_to_the_same_in_any_order(capture: Capture, sae: SAE, contexts: list[Context], state: State):
    rng = np.random.default_rng(0)
    settings = ExtractionSettings(context=32, top=10, per_band=3, reservoir=5, batch=8 * 32, shard=16)
    states = [step.state for step in extract(capture, sae, contexts, settings) if step.state]
    again = merged([State.from_arrays(states[i].arrays()) for i in rng.permutation(len(states))])
    want, got = state.arrays(), again.arrays()
    assert want.keys() == got.keys()
    for name in want:
        if name.startswith("quality") or "total" in name:
            np.testing.assert_allclose(got[name], want[name], rtol=1e-12)
        else:
            np.testing.assert_array_equal(got[name], want[name], err_msg=name)


def test_shards_that_are_done_are_passed_over(capture: Capture, sae: SAE, contexts: list[Context]):
    steps = list(extract(capture, sae, contexts, SETTINGS, done={0, 2}))
    assert [s.shard for s in steps if s.state] == [i for i in range(steps[-1].shard + 1) if i not in {0, 2}]
    assert steps[-1].n_contexts == len(contexts)


def test_an_sae_of_another_width_is_refused(capture: Capture, tmp_path: Path):
    sae = load_sae(tiny.write_sae(tmp_path / "wide", d_in=32))
    with pytest.raises(SettingsError, match=r"wide reads vectors of width 32 .* has width 24"):
        next(extract(capture, sae, [], SETTINGS))


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
