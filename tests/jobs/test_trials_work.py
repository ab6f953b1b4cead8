"""A worker answers a text: the values are those that an extraction stores of the same text."""

import json
from pathlib import Path

import numpy as np
import pytest

from features.models import SAE, Activity, Run
from features.store.contexts import unpack_tokens
from features.store.examples import unpack_examples
from jobs import presence, trials
from jobs.engine import capture
from jobs.engine.saes import load_sae
from jobs.models import Job, Trial
from jobs.work import warm
from jobs.work.trial import answer
from tests.engine import tiny
from tests.jobs.helpers import done, tiny_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> warm.Warm:
    """A worker's memory with nothing in it yet."""
    empty = warm.Warm(2)
    for module in ("jobs.work.warm", "jobs.work.reading", "jobs.work.loop"):
        monkeypatch.setattr(f"{module}.WARM", empty)
    return empty


@pytest.fixture
def sae(tiny_folder: Path, shelf: warm.Warm) -> SAE:
    """Of a run that has sinks and skipped positions."""
    job = done(tiny_job(tiny_folder, context=48, skip_first=2))
    assert job.state == Job.State.DONE, job.error
    return SAE.objects.get()


def tried(sae: SAE, index: int, text: str) -> Trial:
    trial = Trial.objects.create(sae=sae, index=index, text=text)
    answer(trial.pk)
    trial.refresh_from_db()
    assert trial.state == Trial.State.DONE, trial.error
    return trial


def values_of(trial: Trial) -> np.ndarray:
    return np.frombuffer(bytes(trial.result), "<f4")


def test_a_text_of_the_corpus_has_the_values_that_the_run_stored(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, shelf: warm.Warm
) -> None:
    monkeypatch.setattr(capture, "SINK_RATIO", 1.4)  # the tiny model has no sinks of its own
    monkeypatch.setattr("jobs.work.plan.SINK_SAMPLE", 64)
    assert done(tiny_job(tiny_folder, context=48, skip_first=2)).state == Job.State.DONE
    sae, run = SAE.objects.get(), Run.objects.get()
    assert run.n_sinks > 2 * run.n_contexts and run.n_special
    documents = [json.loads(line) for line in (tiny_folder / "corpus.jsonl").read_text().splitlines()]
    texts = {document["id"]: document["text"] for document in documents}
    contexts = {c.number: c for c in run.contexts.filter(offset=0)}
    seen = 0
    for activity in Activity.objects.filter(run=run).order_by("index")[:24]:
        fired = [e for e in unpack_examples(bytes(activity.examples)) if e.fires and e.context in contexts]
        for example in fired[:2]:
            context = contexts[example.context]
            ids = unpack_tokens(bytes(context.token_ids))
            trial = tried(sae, activity.index, texts[context.document_id])
            assert np.array_equal(unpack_tokens(bytes(trial.token_ids))[: len(ids)], ids)
            np.testing.assert_allclose(values_of(trial)[: len(ids)], example.dense(len(ids)), rtol=1e-5, atol=1e-6)
            seen += 1
    assert seen > 20


def test_the_answer_says_what_it_was_computed_with(sae: SAE) -> None:
    trial = tried(sae, 3, "the quick brown fox <eos> jumps")
    run = Run.objects.get()
    said = trial.provenance
    assert (said["run"], said["sae"], said["model"]) == (run.pk, sae.digest, sae.model.weights_digest)
    assert said["sink_threshold"] == run.provenance["sink_threshold"]
    assert said["dtype"] == "float32" and said["commit"] == run.provenance["commit"]
    assert said["sinks"] == [1]  # <bos> is special, so of the two that are skipped it is not a sink
    assert trial.worker == presence.own_name() and trial.device.startswith("cpu")
    assert trial.seconds and trial.seconds >= said["loading"] > 0
    assert len(values_of(trial)) == len(unpack_tokens(bytes(trial.token_ids))) == said["n_tokens"]


def test_a_feature_that_comes_close_is_told(sae: SAE) -> None:
    text = " ".join(tiny.WORDS)
    silent = [trial for index in range(2, 40) if not values_of(trial := tried(sae, index, text)).any()]
    near = [trial.provenance["near"] for trial in silent if trial.provenance["near"]]
    assert near and all(value > 0 and position > 1 for position, value in near)


def test_a_long_text_is_cut(sae: SAE) -> None:
    trial = tried(sae, 3, "fox " * 1000)
    assert len(values_of(trial)) == 256 < trial.provenance["n_tokens"]  # what the model reads at most


def test_a_text_of_special_tokens_alone_fires_nowhere(sae: SAE) -> None:
    assert not values_of(tried(sae, 3, "<eos>")).any()


def test_the_second_text_finds_the_model_warm(sae: SAE, shelf: warm.Warm, monkeypatch: pytest.MonkeyPatch) -> None:
    tried(sae, 3, "fox")
    assert shelf.names == [sae.name]
    monkeypatch.setattr("jobs.work.warm._load", None)
    assert tried(sae, 4, "fox").provenance["loading"] == 0


def another(sae: SAE, folder: Path, seed: int) -> SAE:
    """The row of one more SAE of the same model, at the same point."""
    found = load_sae(tiny.write_sae(folder / f"sae{seed}", seed=seed))
    row = SAE.objects.select_related("model").get(pk=sae.pk)
    row.pk, row.slug, row.name = None, f"sae-{seed}", f"sae {seed}"
    row.source, row.digest = str(folder / f"sae{seed}"), found.digest
    row.save()
    return row


def test_saes_of_one_model_share_it_and_the_oldest_goes(sae: SAE, shelf: warm.Warm, tmp_path: Path) -> None:
    first, second, third = sae, another(sae, tmp_path, 1), another(sae, tmp_path, 2)
    for each in (first, second, third, second):
        tried(each, 3, "fox")
    assert shelf.names == [third.name, second.name]
    assert len({id(pair.model) for pair in shelf._pairs.values()}) == 1


def test_where_memory_is_short_one_stays(
    sae: SAE, shelf: warm.Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = another(sae, tmp_path, 1)
    tried(sae, 3, "fox")
    monkeypatch.setattr("jobs.machine.memory_free", lambda: 1 << 10)
    tried(other, 3, "fox")
    assert shelf.names == [other.name]


def test_a_job_leaves_nothing_warm(sae: SAE, shelf: warm.Warm, tiny_folder: Path) -> None:
    tried(sae, 3, "fox")
    done(tiny_job(tiny_folder))
    assert shelf.names == []


def failed(sae: SAE) -> str:
    trial = Trial.objects.create(sae=sae, index=3, text="fox")
    answer(trial.pk)
    trial.refresh_from_db()
    assert trial.state == Trial.State.FAILED
    return trial.error


def test_other_files_than_those_of_the_run_are_refused(sae: SAE, tmp_path: Path) -> None:
    SAE.objects.update(source=str(tiny.write_sae(tmp_path / "other", seed=5)))
    assert failed(sae).startswith(f"The SAE {tmp_path}/other on this worker is not what the features were extracted")
    sae.model.weights_digest = "0" * 64
    sae.model.save()
    SAE.objects.update(source=sae.source)
    assert failed(sae).startswith(f"The model {sae.model.source} on this worker is not what")


def test_files_that_are_gone_are_named(sae: SAE, tmp_path: Path) -> None:
    SAE.objects.update(source=str(tmp_path / "gone"))
    assert "gone" in failed(sae)


def test_an_error_that_nobody_foresaw_is_told_and_nothing_broken_is_kept(
    sae: SAE, shelf: warm.Warm, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried(sae, 3, "fox")

    def broken(*_: object) -> None:
        raise ZeroDivisionError("of\nthe tests")

    monkeypatch.setattr("jobs.work.reading.column", broken)
    assert failed(sae) == "The worker met an error it does not know: ZeroDivisionError: of the tests"
    assert shelf.names == []


def test_a_text_that_was_taken_back_is_let_go(sae: SAE, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial.objects.create(sae=sae, index=3, text="fox")
    pair = warm.Warm.pair

    def taken_back_meanwhile(*args: object) -> object:
        trials.take_back(Trial.objects.get())
        return pair(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(warm.Warm, "pair", taken_back_meanwhile)
    answer(trial.pk)
    assert not Trial.objects.exists()
    answer(trial.pk)  # its message comes again


def test_without_a_run_only_special_tokens_are_masked(sae: SAE) -> None:
    Run.objects.update(origin=Run.Origin.SAEDASHBOARD)
    trial = tried(sae, 3, "fox <eos> fox")
    assert trial.provenance["run"] is None and trial.provenance["sinks"] == []
