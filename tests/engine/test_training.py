"""Training on a tiny model: it learns, it repeats, and what it writes loads."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from django.core.management import CommandError, call_command

from jobs.engine.capture import Capture
from jobs.engine.corpus import cut_contexts, read_corpus
from jobs.engine.errors import SettingsError
from jobs.engine.model import LoadedModel
from jobs.engine.saes import load_sae
from jobs.engine.training import TrainingSettings, train
from tests.engine import tiny

SMALL: dict[str, Any] = {
    "d_sae": 96,
    "k": 8,
    "batch": 256,
    "reuse": 10,
    "buffer": 4096,
    "lr": 5e-3,
    "warmup": 20,
    "context": 32,
}


@pytest.fixture(scope="module")
def contexts(tiny_folder: Path, tiny_model: LoadedModel):
    return list(cut_contexts(read_corpus(tiny_folder / "corpus.jsonl"), tiny_model.tokenize, 32))


def test_it_learns_and_the_same_seed_repeats(tiny_model: LoadedModel, contexts):
    runs = []
    for _ in range(2):
        capture = Capture(tiny_model, "resid_post", tiny.HOOK_LAYER)
        capture.calibrate(contexts[:64])
        *_, (_, weights) = train(capture, contexts, TrainingSettings(**SMALL))
        runs.append(weights)
    history = runs[0].history
    assert history[-1].fvu < 0.5 * history[0].fvu
    torch.testing.assert_close(runs[0].W_dec.norm(dim=-1), torch.ones(96))
    assert torch.equal(runs[0].W_enc, runs[1].W_enc)


def test_too_little_text_is_said(tiny_model: LoadedModel, contexts):
    capture = Capture(tiny_model, "resid_post", tiny.HOOK_LAYER)
    with pytest.raises(SettingsError, match="fewer than one batch of 2048"):
        next(train(capture, contexts[:3], TrainingSettings()))


def test_the_command_writes_an_sae_that_loads_with_its_record(tiny_folder: Path, tmp_path: Path):
    corpus, out = str(tiny_folder / "corpus.jsonl"), tmp_path / "made"
    held_out = tiny.write_corpus(tmp_path / "held-out.jsonl", n=10, seed=5)
    options = {name.replace("-", "_"): value for name, value in SMALL.items()}
    printed = io.StringIO()
    call_command(
        "train_sae", model=str(tiny_folder / "model"), corpus=corpus, held_out=str(held_out), layer=1, out=out,
        stdout=printed, **options,
    )  # fmt: skip
    sae = load_sae(out)
    assert (sae.architecture, sae.k, sae.hook, sae.layer, sae.d_sae) == ("topk", 8, "resid_post", 1, 96)
    record = json.loads((out / "training.json").read_text())
    assert record["result"]["held_out"]["explained_variance"] > 0.3
    assert 0 <= record["result"]["held_out"]["dead_fraction"] < 1
    assert len(record["corpus"]["digest"]) == 64
    assert record["loss_curve"][0][1] > record["loss_curve"][-1][1]
    assert "explained variance" in printed.getvalue()
    with pytest.raises(CommandError, match="exists already"):
        call_command("train_sae", model="m", corpus=corpus, held_out=corpus, layer=1, out=out)
