"""Logit effects and neighbours, against dense matrices; ties in order of the id."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from jobs.engine import decoder
from jobs.engine.model import LoadedModel
from jobs.engine.points import resolve
from jobs.engine.saes import SAE, load_sae
from tests.engine import tiny
from tests.engine.families import FAMILIES, load


def logits_of(model: Any, added: torch.Tensor) -> torch.Tensor:
    """What is added to the stream, times the gain of the final norm, times W_U."""
    logits: torch.Tensor = (added * model.final_norm.weight) @ model.unembedding.T
    return logits


@pytest.fixture
def tiny_sae(tmp_path: Path) -> SAE:
    return load_sae(tiny.write_sae(tmp_path / "sae"))


@given(st.data(), st.booleans())
def test_best_is_a_stable_sort(data: st.DataObject, largest: bool):
    """Few different values, so that most ties lie across the boundary, or all of a row is one."""
    rows, columns = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12))
    n = data.draw(st.integers(0, columns))
    values = st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0, float("inf"), -float("inf")])
    line = st.lists(values, min_size=columns, max_size=columns)
    scores = torch.tensor(data.draw(st.lists(line, min_size=rows, max_size=rows)))
    want = scores.sort(dim=-1, descending=largest, stable=True).indices[:, :n]
    assert torch.equal(decoder.best(scores, n, largest=largest), want)


def test_best_leaves_no_row_short_where_a_score_is_no_number():
    scores = torch.tensor([[1.0, float("nan"), 1.0, 1.0, 0.0], [float("nan")] * 5])
    for largest in (True, False):
        found = decoder.best(scores, 2, largest=largest)
        assert [len(set(row)) for row in found.tolist()] == [2, 2]


def test_logit_effects_are_those_of_dense_logits(tiny_model, tiny_sae):
    logits = decoder.through_norm(tiny_model.final_norm, tiny_sae.W_dec) @ tiny_model.unembedding.T
    (chunk,) = decoder.logit_effects(tiny_model, tiny_sae, n=7)
    for number, descending in enumerate((True, False)):
        ordered = logits.sort(dim=-1, descending=descending, stable=True)
        assert torch.equal(chunk.ids[:, number], ordered.indices[:, :7])
        torch.testing.assert_close(chunk.values[:, number], ordered.values[:, :7])


@pytest.mark.parametrize("hook", ["resid_mid", "attn_out", "mlp_out", "z", "mlp_act"])
def test_logit_effects_follow_the_output_into_the_stream(tiny_model: LoadedModel, hook: str):
    """By hand: what one unit more at the point adds to what the sublayer gives."""
    point = resolve(tiny_model, hook, 1)
    sae = tiny.random_sae(10, point.width)
    added = sae.W_dec
    if hook in ("z", "mlp_act"):
        there = torch.randn(1, point.width)
        added = point.module(there + sae.W_dec) - point.module(there)
    (chunk,) = decoder.logit_effects(tiny_model, sae, point, 6)
    ordered = logits_of(tiny_model, added).sort(dim=-1, descending=True, stable=True)
    torch.testing.assert_close(chunk.values[:, 0], ordered.values[:, :6], rtol=1e-4, atol=1e-5)
    assert (chunk.ids[:, 0] == ordered.indices[:, :6]).float().mean() > 0.99


def test_gpt2_keeps_its_projections_the_other_way_round(tmp_path: Path):
    model = load(next(f for f in FAMILIES if f.name == "GPT2"), tmp_path)
    for hook, width in (("z", 16), ("mlp_act", 24)):
        point = resolve(model, hook, 0)
        directions = torch.randn(5, width)
        added = decoder.into_the_stream(model, directions, point)
        assert added is not None
        torch.testing.assert_close(added, point.module(directions) - point.module(torch.zeros(1, width)))


def test_the_gain_of_a_norm_behind_the_sublayer_is_in_what_it_adds(tmp_path: Path):
    model = load(next(f for f in FAMILIES if f.name == "Gemma2"), tmp_path)
    block = model.arch.block(1)
    for hook, norm in (("z", block.post_attention_layernorm), ("mlp_act", block.post_feedforward_layernorm)):
        point = resolve(model, hook, 1)
        directions = torch.randn(5, point.width)
        added = decoder.into_the_stream(model, directions, point)
        assert added is not None
        torch.testing.assert_close(added, point.module(directions) * (1 + norm.weight), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("hook", ["mlp_in", "mlp_in_normalized", "mlp.gate_proj.output", "mlp.act_fn.output"])
def test_where_no_way_into_the_stream_is_known_there_are_no_effects(tiny_model: LoadedModel, hook: str):
    point = resolve(tiny_model, hook, 0)
    (chunk,) = decoder.logit_effects(tiny_model, tiny.random_sae(24, point.width), point)
    assert chunk.ids.shape == (tiny.D_SAE, 2, 10)
    assert (chunk.ids == -1).all()
    assert not chunk.values.any()


def test_a_transcoder_of_two_widths_has_neighbours_and_no_cosines():
    sae = tiny.random_sae(10, 7)
    (chunk,) = decoder.neighbours(sae, 5)
    for number, weights in enumerate((sae.W_dec, sae.W_enc.T)):
        cosine = torch.cosine_similarity(weights[:, None], weights[None], dim=-1).fill_diagonal_(-2)
        torch.testing.assert_close(chunk.values[:, number], cosine.topk(5).values)
    assert decoder.encoder_decoder_cosine(sae).tolist() == [0] * tiny.D_SAE


def test_neighbours_go_by_decoder_rows_and_by_encoder_columns(tiny_sae):
    tiny_sae.W_enc = torch.randn(tiny_sae.W_enc.shape)
    (chunk,) = decoder.neighbours(tiny_sae, 5)
    assert chunk.ids.shape == (tiny_sae.d_sae, 2, 5)
    for number, weights in enumerate((tiny_sae.W_dec, tiny_sae.W_enc.T)):
        cosine = torch.cosine_similarity(weights[:, None], weights[None], dim=-1).fill_diagonal_(-2)
        torch.testing.assert_close(chunk.values[:, number], cosine.topk(5).values)
        torch.testing.assert_close(cosine.gather(-1, chunk.ids[:, number]), chunk.values[:, number])
    assert chunk.ids[:2, 0, 0].tolist() == [1, 0]  # the twins


def test_a_row_of_zeros_is_no_ones_neighbour_in_particular(tiny_sae):
    tiny_sae.W_dec[3] = 0
    tiny_sae.W_enc[:, 3] = 0
    (chunk,) = decoder.neighbours(tiny_sae, 4)
    assert chunk.values.isfinite().all()
    assert chunk.ids[3].tolist() == [[0, 1, 2, 4]] * 2
    assert not chunk.values[3].any()
    assert not (chunk.ids == torch.arange(tiny_sae.d_sae)[:, None, None]).any()


def test_more_neighbours_than_there_are(tmp_path):
    sae = load_sae(tiny.write_sae(tmp_path / "sae", d_sae=6))
    (chunk,) = decoder.neighbours(sae)
    assert chunk.ids.sort(dim=-1).values.tolist() == [[[j for j in range(6) if j != i]] * 2 for i in range(6)]


@pytest.mark.parametrize("eps", [1e-6, 1e-2])
def test_through_norm_applies_the_gain_of_each_kind_of_norm(eps: float):
    directions = torch.randn(5, 8)
    gain = torch.rand(8) + 0.5
    llama, gemma, layer = LlamaRMSNorm(8, eps=eps), GemmaRMSNorm(8, eps=eps), nn.LayerNorm(8, eps=eps)
    with torch.no_grad():
        llama.weight.copy_(gain)
        gemma.weight.copy_(gain - 1)  # Gemma keeps the gain less one
        layer.weight.copy_(gain)
        layer.bias.fill_(3.0)  # the same for every feature: no effect of a feature
        want = directions * gain
        torch.testing.assert_close(decoder.through_norm(llama, directions), want)
        torch.testing.assert_close(decoder.through_norm(gemma, directions), want)
        centred = (directions - directions.mean(-1, keepdim=True)) * gain
        torch.testing.assert_close(decoder.through_norm(layer, directions), centred)


def test_a_layer_norm_in_16_bits_has_a_gain_too():
    norm = nn.LayerNorm(8).bfloat16()
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    directions = torch.randn(5, 8)
    centred = (directions - directions.mean(-1, keepdim=True)) * norm.weight.float()
    torch.testing.assert_close(decoder.through_norm(norm, directions), centred, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["cohere", "nemotron", "olmo"])
def test_through_norm_knows_layer_norms_of_other_makes(kind: str):
    from transformers.models.cohere.modeling_cohere import CohereLayerNorm
    from transformers.models.nemotron.modeling_nemotron import NemotronLayerNorm1P
    from transformers.models.olmo.modeling_olmo import OlmoLayerNorm

    directions, gain = torch.randn(5, 8), torch.rand(8) + 0.5
    norm: Any
    with torch.no_grad():
        if kind == "cohere":
            norm = CohereLayerNorm(8)
            norm.weight.copy_(gain)
        elif kind == "nemotron":
            norm = NemotronLayerNorm1P(8)
            norm.weight.copy_(gain - 1)
        else:
            norm, gain = OlmoLayerNorm(8), torch.ones(8)
        centred = (directions - directions.mean(-1, keepdim=True)) * gain
        torch.testing.assert_close(decoder.through_norm(norm, directions), centred, rtol=1e-4, atol=1e-5)


def test_chunks_give_what_the_whole_gives(tiny_model, tiny_sae, monkeypatch):
    sides = [lambda: decoder.logit_effects(tiny_model, tiny_sae), lambda: decoder.neighbours(tiny_sae)]
    whole = [list(ranked()) for ranked in sides]
    monkeypatch.setattr(decoder, "MAX_CELLS", 5 * tiny_model.vocab_size)
    for one, ranked in zip(whole, sides, strict=True):
        many = list(ranked())
        assert len(many) > len(one) == 1
        assert [chunk.start for chunk in many] == list(range(0, tiny_sae.d_sae, len(many[0].ids)))
        assert torch.equal(torch.cat([c.ids for c in many]), one[0].ids)
        torch.testing.assert_close(torch.cat([c.values for c in many]), one[0].values)
