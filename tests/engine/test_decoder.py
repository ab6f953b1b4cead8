"""Logit effects and neighbours, against dense matrices; ties in order of the id."""

from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from jobs.engine import decoder


def test_best_orders_ties_by_id():
    scores = torch.tensor([[1.0, 3.0, 3.0, 0.0, 3.0, 2.0], [5.0, 5.0, 5.0, 5.0, 5.0, 5.0]])
    assert decoder._best(scores, 3).tolist() == [[1, 2, 4], [0, 1, 2]]


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


def test_chunks_give_what_the_whole_gives(tiny_model, tmp_path, monkeypatch):
    from jobs.engine.saes import load_sae
    from tests.engine import tiny

    sae = load_sae(tiny.write_sae(tmp_path / "sae"))
    whole = [list(f(*a)) for f, a in ((decoder.logit_effects, (tiny_model, sae)), (decoder.neighbours, (sae,)))]
    monkeypatch.setattr(decoder, "MAX_CELLS", 5 * tiny_model.vocab_size)
    chunked = [list(f(*a)) for f, a in ((decoder.logit_effects, (tiny_model, sae)), (decoder.neighbours, (sae,)))]
    for one, many in zip(whole, chunked, strict=True):
        assert len(many) > len(one) == 1
        assert torch.equal(torch.cat([c.ids for c in many]), one[0].ids)
        torch.testing.assert_close(torch.cat([c.values for c in many]), one[0].values)
