"""The loop of one worker: stages, cancelling, going on after a stop, and writing all or nothing."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from features.models import SAE, Label
from jobs import ingest
from jobs.engine import extraction, quality
from jobs.models import Job
from tests.jobs.helpers import (
    a_worker,
    done,
    nothing_is_left,
    nothing_is_written,
    rows_of,
    stored,
    tiny_job,
)

pytestmark = pytest.mark.django_db


def test_a_job_tells_its_stages_and_ends_with_a_run(tiny_folder: Path):
    stages: list[str] = []
    job = done(tiny_job(tiny_folder), watch=lambda stage, *_: stages.append(stage))
    assert job.state == Job.State.DONE, job.traceback
    assert job.run is not None
    assert job.device == job.run.provenance["device"] != ""
    assert job.done == job.total
    told = list(dict.fromkeys(stages))
    assert told[0] == "reading the corpus"
    assert "extracting" in told
    assert told[-1] == "writing to the database"
    assert [(w["number"], w["worker"], w["attempts"]) for w in job.run.work] == [(n, "worker", 1) for n in range(3)]
    assert sum(w["tokens"] for w in job.run.work) == job.run.n_read
    assert nothing_is_left(job)


def test_cancelling_stops_within_a_batch_and_writes_nothing(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    job, read = tiny_job(tiny_folder, shards=1), []
    extract = extraction.extract

    def cancelled_meanwhile(*args: Any):
        for step in extract(*args):
            read.append(step)
            Job.objects.cancel(job.pk)
            yield step

    monkeypatch.setattr("jobs.work.shard.extract", cancelled_meanwhile)
    done(job)
    assert job.state == Job.State.CANCELLED
    assert len(read) == 1
    assert {shard.state for shard in job.shards.all()} == {"waiting"}
    assert nothing_is_written()
    assert not stored(job)


def test_a_job_that_was_stopped_goes_on_with_the_shards_it_has(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    job = tiny_job(tiny_folder)
    worker = a_worker(job, "first")
    for _ in range(3):  # plan, and two shards
        assert worker.step()
    kept = stored(job)
    assert len(kept) == 2
    assert Job.objects.cancel(job.pk)
    assert not worker.step()

    calls: list[int] = []
    extract = extraction.extract

    def counted(*args: Any):
        calls.append(len(args[3]))
        return extract(*args)

    monkeypatch.setattr("jobs.work.shard.extract", counted)
    assert Job.objects.requeue(job.pk)
    other = a_worker(job, "second")
    assert other.step()  # plans again, and keeps what is there
    assert kept == stored(job)
    done(job, "third")
    assert job.state == Job.State.DONE
    assert job.attempts == 2
    assert len(calls) == 1
    assert rows_of(job.run) == rows_of(done(tiny_job(tiny_folder)).run)
    assert job.run and [w["worker"] for w in job.run.work] == ["first", "first", "third"]


def test_a_corpus_that_changed_in_between_is_read_afresh(tiny_folder: Path, tmp_path: Path):
    path = tmp_path / "changing.jsonl"
    path.write_text((tiny_folder / "corpus.jsonl").read_text())
    job = tiny_job(tiny_folder, corpus=str(path))
    worker = a_worker(job, "first")
    assert worker.step() and worker.step()
    old = stored(job)
    assert len(old) == 1
    assert Job.objects.cancel(job.pk) and Job.objects.requeue(job.pk)
    path.write_text('{"text": "the quick brown fox"}\n')
    assert worker.step()
    assert not stored(job)
    done(job)
    assert job.run is not None
    assert job.run.n_documents == 1


def test_a_failure_while_writing_is_tried_three_times_and_leaves_nothing(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    tries = []

    def full(*_: object) -> None:
        tries.append(1)
        raise OSError("No space left on device")

    monkeypatch.setattr(ingest, "_write_labels", full)  # the last of the writes
    job = done(tiny_job(tiny_folder))
    assert job.state == Job.State.FAILED
    assert "No space left on device" in job.error
    assert "Traceback" in job.traceback
    assert len(tries) == 3
    assert nothing_is_written()


@pytest.mark.parametrize("valid", [True, False])
def test_a_later_run_changes_the_labels_of_rules_alone_and_only_if_valid(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, valid: bool
):
    if valid:  # random weights explain little: lower the bar
        monkeypatch.setattr(quality, "MIN_EXPLAINED_VARIANCE", -10)
        monkeypatch.setattr(quality, "MAX_L0_RATIO", 1e9)
        monkeypatch.setattr("jobs.work.finish.cross_entropy", lambda *_: None)
    first = done(tiny_job(tiny_folder))
    labelled = Label.objects.select_related("feature").order_by("feature__index")[:2]
    mine, theirs = (label.feature for label in labelled)
    mine.label = Label.objects.create(feature=mine, text="my words", source=Label.Source.PERSON)
    mine.save(update_fields=["label"])
    second = done(tiny_job(tiny_folder))
    for feature in (mine, theirs):
        feature.refresh_from_db()
    assert mine.label is not None and mine.label.text == "my words"
    assert theirs.label is not None and theirs.label.run is not None
    assert theirs.label.run_id == (second if valid else first).run_id


def test_a_job_cancelled_while_it_writes_leaves_no_run(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    job, merged = tiny_job(tiny_folder), []
    # Within the transaction here, and so undone with it: the second time, the cancel comes from outside.
    write = ingest._write_labels
    monkeypatch.setattr(ingest, "_write_labels", lambda *args: (write(*args), Job.objects.cancel(job.pk)))

    def watch(stage: str, *_: int) -> None:
        merged.append(1) if "merging" in stage else None
        if len(merged) == 2:
            Job.objects.cancel(job.pk)

    done(job, watch=watch)
    assert job.state == Job.State.CANCELLED
    assert nothing_is_written()


def test_a_window_longer_than_the_model_reads_is_refused(tiny_folder: Path):
    job = done(tiny_job(tiny_folder, context=300))
    assert job.error == "A context of 300 tokens is too long: model reads 256 at most."
    assert job.failures == 0


def test_a_checkpoint_that_was_moved_is_found_at_its_new_place(tiny_folder: Path, tmp_path: Path):
    done(tiny_job(tiny_folder))
    shutil.copytree(tiny_folder / "sae", tmp_path / "moved")
    done(tiny_job(tiny_folder, sae=str(tmp_path / "moved")))
    assert SAE.objects.get().source == str(tmp_path / "moved")
