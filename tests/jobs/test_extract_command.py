"""The extract command and the API together, against brute force: a stranger's view of the whole path."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from features.models import SAE as SAERow
from features.models import Activity, Context, Corpus, Feature, LanguageModel, Run
from jobs.engine.corpus import Context as Window
from jobs.models import Job
from tests.engine import tiny
from tests.engine.brute_force import Seen, feature_truth, histogram_truth, quality_truth

CONTEXT, TOP = 32, 10


def extract(folder: Path, **changes: Any) -> dict[str, Any]:
    out = io.StringIO()
    options = {"model": folder / "model", "sae": folder / "sae", "corpus": folder / "corpus.jsonl"} | changes
    options = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
    call_command("extract", context=CONTEXT, top=TOP, local=True, json=True, stdout=out, **options)
    facts: dict[str, Any] = json.loads(out.getvalue().splitlines()[-1])
    return facts


@pytest.fixture
def reader(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create_user("reader"))
    return client


@pytest.fixture(scope="session")
def seen(tiny_folder: Path) -> list[Seen]:
    """Each window on its own through plain transformers, TopK by hand: nothing of the engine takes part."""
    model = AutoModelForCausalLM.from_pretrained(tiny_folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder / "model")
    weights = load_file(tiny_folder / "sae" / "sae_weights.safetensors")
    found, number = [], 0
    for line in (tiny_folder / "corpus.jsonl").read_text().splitlines():
        document = json.loads(line)
        ids = tokenizer(document["text"]).input_ids
        for offset in range(0, len(ids), CONTEXT):
            window = torch.tensor(ids[offset : offset + CONTEXT])
            with torch.no_grad():
                # hidden_states[i + 1] is the output of layer i, save for the last, which has gone through the norm.
                outputs: list[torch.Tensor] = []
                hook = model.model.layers[tiny.HOOK_LAYER].register_forward_hook(
                    lambda _m, _i, o, keep=outputs: keep.append(o[0] if isinstance(o, tuple) else o)
                )
                model(window[None])
                hook.remove()
                x = outputs[0].reshape(len(window), -1)
            pre = x @ weights["W_enc"] + weights["b_enc"]
            order = np.argsort(-pre.numpy(), axis=1, kind="stable")[:, :6]
            acts = np.zeros(pre.shape, np.float32)
            np.put_along_axis(acts, order, np.take_along_axis(pre.relu().numpy(), order, 1), 1)
            mask = ~np.isin(window.numpy(), [0, 1, 2])
            context = Window(number, document["id"], document["source"], offset, window.numpy().astype(np.int32))
            x_hat = acts @ weights["W_dec"].numpy()
            found.append(Seen(context, acts, x.numpy(), x_hat, mask))
            number += 1
    return found


@pytest.mark.django_db
def test_every_number_that_the_api_gives_is_that_of_brute_force(tiny_folder: Path, seen: list[Seen], reader: Client):
    facts = extract(tiny_folder)
    quality = quality_truth(seen)
    assert facts["n_tokens"] == quality["n_tokens"]
    assert facts["n_features"] == tiny.D_SAE
    assert facts["explained_variance"] == pytest.approx(quality["explained_variance"], abs=1e-5)
    assert facts["l0"] == pytest.approx(quality["l0"])
    assert facts["valid"] is False  # random weights explain nothing
    for index in range(tiny.D_SAE):
        answer = reader.get(f"/api/v1/saes/{facts['sae']}/features/{index}")
        assert answer.status_code == 200
        compare(answer.json(), seen, index, facts)


def compare(got: dict[str, Any], seen: list[Seen], index: int, facts: dict[str, Any]) -> None:
    truth = feature_truth(seen, index)
    assert (got["sae"], got["index"], got["run"]) == (facts["sae"], index, facts["run"])
    assert got["n_tokens"] == facts["n_tokens"]
    assert got["density"] == pytest.approx(truth.n_firing / facts["n_tokens"], rel=1e-12)
    assert got["n_contexts"] == truth.n_contexts
    assert got["max_activation"] == pytest.approx(truth.max_activation, rel=1e-4)
    edges, counts = np.array(got["histogram"]["edges"]), got["histogram"]["counts"]
    assert sum(counts) == truth.n_firing
    if counts:  # a value within rounding of an edge may fall on either side of it
        assert np.abs(np.array(counts) - histogram_truth(truth.firings, edges)).sum() <= 2
    by_number = {s.context.number: s for s in seen}
    top = [e for e in got["examples"] if e["band"] == "top"]
    assert len(top) == min(TOP, len(truth.ranked))
    for example, (_, _, maximum, _, _) in zip(top, truth.ranked, strict=False):
        assert example["max_value"] == pytest.approx(maximum, rel=1e-4)
    for example in got["examples"]:
        one = by_number[example["context_id"]]
        assert example["token_ids"] == one.context.token_ids.tolist()
        assert example["document"] == {"id": one.context.document_id, "source": one.context.source}
        assert len(example["tokens"]) == len(example["values"]) == len(example["token_ids"])
        want = np.where(one.mask, one.acts[:, index], 0)
        np.testing.assert_allclose(example["values"], want, rtol=1e-3, atol=1e-4)
        assert example["max_value"] == max(example["values"]) == example["values"][example["peak"]]


@pytest.mark.django_db
def test_logits_and_neighbours_are_those_of_brute_force(tiny_folder: Path, reader: Client):
    facts = extract(tiny_folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_folder / "model")
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder / "model")
    W_dec = load_file(tiny_folder / "sae" / "sae_weights.safetensors")["W_dec"]
    effects = (W_dec * model.model.norm.weight @ model.lm_head.weight.T).detach().numpy()
    unit = (W_dec / W_dec.norm(dim=-1, keepdim=True)).numpy()
    for index in (0, 1, 7, tiny.D_SAE - 1):
        got = reader.get(f"/api/v1/saes/{facts['sae']}/features/{index}").json()
        for name, sign in (("top", -1), ("bottom", 1)):
            ids = np.argsort(sign * effects[index], kind="stable")[:10]
            shown = got["logits"][name]
            assert [e["token_id"] for e in shown] == ids.tolist()
            assert [e["token"] for e in shown] == [tokenizer.decode([i]) for i in ids]
            np.testing.assert_allclose([e["value"] for e in shown], effects[index][ids], rtol=1e-4)
        cosine = unit @ unit[index]
        cosine[index] = -2
        near = np.argsort(-cosine, kind="stable")[:10]
        assert [n["index"] for n in got["neighbours"]] == near.tolist()


@pytest.mark.django_db
def test_a_second_run_reuses_the_rows_of_model_sae_and_corpus(tiny_folder: Path):
    first, second = extract(tiny_folder), extract(tiny_folder)
    assert second["sae"] == first["sae"]
    assert second["run"] != first["run"]
    assert (LanguageModel.objects.count(), SAERow.objects.count(), Corpus.objects.count()) == (1, 1, 1)
    assert Feature.objects.count() == tiny.D_SAE
    assert Activity.objects.count() == 2 * tiny.D_SAE
    one, two = (list(Activity.objects.filter(run=r["run"]).order_by("index")) for r in (first, second))
    assert [bytes(a.examples) for a in one] == [bytes(a.examples) for a in two]
    assert [bytes(a.histogram) for a in one] == [bytes(a.histogram) for a in two]


@pytest.mark.django_db
def test_registered_things_go_by_their_slugs(tiny_folder: Path):
    first = extract(tiny_folder)
    run = Run.objects.get(pk=first["run"])
    again = extract(tiny_folder, model=run.sae.model.slug, sae=run.sae.slug, corpus=run.corpus.slug)
    assert again["sae"] == first["sae"]
    assert again["explained_variance"] == first["explained_variance"]


@pytest.mark.django_db
def test_a_run_carries_its_provenance(tiny_folder: Path):
    run = Run.objects.get(pk=extract(tiny_folder, seed=7)["run"])
    assert run.seed == 7
    assert run.settings["context"] == CONTEXT
    assert len(run.provenance["model"]["weights"]) == len(run.provenance["model"]["tokenizer"]) == 64
    assert run.provenance["sae"]["digest"] == run.sae.digest
    assert run.provenance["corpus"] == run.corpus.digest
    assert {"commit", "dirty", "packages", "device", "dtype"} <= run.provenance.keys()
    assert run.provenance["packages"]["torch"] == torch.__version__


@pytest.mark.django_db
def test_the_dtype_of_the_model_is_chosen_and_recorded(tiny_folder: Path):
    plain, half = (Run.objects.get(pk=extract(tiny_folder, dtype=d)["run"]) for d in ("auto", "bfloat16"))
    assert [run.provenance["dtype"] for run in (plain, half)] == ["float32", "bfloat16"]
    assert plain.explained_variance != half.explained_variance
    assert plain.explained_variance == pytest.approx(half.explained_variance, abs=0.02)


@pytest.mark.django_db
def test_tokens_limits_the_run_to_whole_windows(tiny_folder: Path):
    run = Run.objects.get(pk=extract(tiny_folder, tokens=1000)["run"])
    assert 1000 <= run.n_tokens + run.n_special + run.n_sinks < 1000 + CONTEXT


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": "/no/such/model"}, "/no/such/model is missing"),
        ({"sae": "/no/such/sae"}, "/no/such/sae does not exist"),
        ({"corpus": "/no/such/corpus.jsonl"}, "/no/such/corpus.jsonl"),
        ({"layer": 9}, "Layer 9 does not exist in model: it has 2 layers, 0 to 1"),
        ({"top": 0}, "top must be from 1 to 1000, not 0"),
        ({"tokens": 0}, "--tokens must be at least 1"),
        ({"device": "cuda:77"}, "cuda:77"),
        ({"hook": "no_such_point"}, "no_such_point"),
        ({"shards": 0}, "The number of shards must be from 1 to 10000, not 0"),
    ],
)
@pytest.mark.django_db
def test_bad_input_is_one_sentence_and_leaves_nothing(tiny_folder: Path, change: dict[str, Any], sentence: str):
    refuse(tiny_folder, change, sentence)


def refuse(folder: Path, change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CommandError) as raised:
        if "top" in change:
            call_command("extract", model=str(folder / "model"), sae=str(folder / "sae"),
                         corpus=str(folder / "corpus.jsonl"), local=True, **change)  # fmt: skip
        else:
            extract(folder, **change)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
    for kind in (LanguageModel, SAERow, Corpus, Run, Feature, Activity, Context):
        assert not kind.objects.exists(), kind
    assert not Job.objects.exclude(state=Job.State.FAILED).exists()


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "no text"),
        ('{"text": "   "}\n', "no text"),
        ('{"text": "fine"}\nnot json\n', "line 2"),
        ('{"body": "x"}\n', "text"),
        ('{"text": "<bos><eos>"}\n', "every token of the corpus is special"),
    ],
)
@pytest.mark.django_db
def test_a_bad_corpus_is_refused_by_name(tiny_folder: Path, tmp_path: Path, content: str, sentence: str):
    path = tmp_path / "bad.jsonl"
    path.write_text(content)
    refuse(tiny_folder, {"corpus": path}, sentence)


@pytest.mark.django_db
def test_an_sae_for_another_width_is_refused_by_name(tiny_folder: Path, tmp_path: Path):
    wide = tiny.write_sae(tmp_path / "wide", d_in=32)
    refuse(tiny_folder, {"sae": wide}, f"{wide} reads vectors of width 32 (d_in), but model has width 24")


@pytest.mark.django_db
def test_a_document_longer_than_the_models_own_window_is_cut(tiny_folder: Path, tmp_path: Path):
    path = tmp_path / "long.txt"
    path.write_text("the quick brown fox jumps " * 3000)  # many times max_position_embeddings
    facts = extract(tiny_folder, corpus=path)
    assert facts["n_tokens"] > 12_000


@pytest.mark.django_db
def test_a_failed_job_can_be_started_again_and_goes_on(tiny_folder: Path, tmp_path: Path):
    from jobs.services import create_extraction, retry
    from tests.jobs.helpers import done, tiny_request

    path = tmp_path / "later.jsonl"
    job = done(create_extraction(tiny_request(tiny_folder, corpus=str(path)), owner=None), "first")
    assert job.state == Job.State.FAILED
    assert "later.jsonl" in job.error
    path.write_text((tiny_folder / "corpus.jsonl").read_text())
    assert retry(job)
    done(job, "second")
    assert (job.state, job.attempts, job.error) == (Job.State.DONE, 2, "")
    assert job.run is not None
