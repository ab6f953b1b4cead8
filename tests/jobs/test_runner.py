"""The runner: progress, cancelling, going on after a stop, and writing all or nothing."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from features.models import SAE, Activity, Context, Corpus, Feature, Label, LanguageModel, Run
from jobs import ingest, progress
from jobs.engine import quality
from jobs.models import Job
from jobs.runner import run
from jobs.services import create_extraction
from tests.jobs.helpers import tiny_request

pytestmark = pytest.mark.django_db


def claimed(folder: Path, **changes: object) -> Job:
    # Windows of 8 tokens make three shards of the tiny corpus.
    job = create_extraction(tiny_request(folder, context=8, **changes), owner=None)
    assert Job.objects.claim(job.pk, "worker")
    return job


def shards(job: Job) -> dict[str, int]:
    found = (Path(settings.VAR_DIR) / "jobs" / str(job.pk)).glob("*/shard-*.safetensors")
    return {path.name: path.stat().st_mtime_ns for path in found}


def nothing_is_written() -> bool:
    return not any(k.objects.exists() for k in (LanguageModel, SAE, Corpus, Run, Feature, Activity, Context, Label))


def test_a_job_tells_its_stages_and_ends_with_a_run(tiny_folder: Path):
    job = claimed(tiny_folder)
    stages: list[str] = []
    run(job.pk, "worker", lambda stage, done, total: stages.append(stage))
    job.refresh_from_db()
    assert job.state == Job.State.DONE
    assert job.run is not None
    assert job.device == job.run.provenance["device"] != ""
    assert (job.done, job.total) == (0, 0) or job.done == job.total
    told = list(dict.fromkeys(stages))
    assert told[0] == "reading the corpus"
    assert "extracting" in told
    assert told[-1] == "writing to the database"
    assert not shards(job)  # what was kept aside has gone


def test_cancelling_stops_at_the_next_heartbeat_and_writes_nothing(tiny_folder: Path):
    job = claimed(tiny_folder)
    run(job.pk, "worker", lambda stage, *_: stage == "extracting" and Job.objects.cancel(job.pk))
    job.refresh_from_db()
    assert job.state == Job.State.CANCELLED
    assert nothing_is_written()


def test_a_job_that_was_stopped_goes_on_with_the_shards_it_has(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(progress, "BEAT_SECONDS", 0)  # so that it stops at once
    job = claimed(tiny_folder)

    def stop_after_two_shards(stage: str, *_: int) -> None:
        if len(shards(job)) == 2:
            Job.objects.cancel(job.pk)

    run(job.pk, "worker", stop_after_two_shards)
    kept = shards(job)
    assert len(kept) == 2 and nothing_is_written()

    assert Job.objects.requeue(job.pk) and Job.objects.claim(job.pk, "other")
    seen_again: dict[str, int] = {}
    run(job.pk, "other", lambda *_: seen_again.update(shards(job)))
    job.refresh_from_db()
    assert job.state == Job.State.DONE
    assert len(seen_again) == 3
    assert kept.items() <= seen_again.items()  # the same files, not made again

    whole = claimed(tiny_folder)
    run(whole.pk, "worker")
    whole.refresh_from_db()
    blobs = [
        [(bytes(a.examples), bytes(a.histogram)) for a in Activity.objects.filter(run=j.run).order_by("index")]
        for j in (job, whole)
    ]
    assert blobs[0] == blobs[1]


def test_a_corpus_that_changed_in_between_is_read_afresh(tiny_folder: Path, tmp_path: Path):
    path = tmp_path / "changing.jsonl"
    path.write_text((tiny_folder / "corpus.jsonl").read_text())
    job = claimed(tiny_folder, corpus=str(path))
    run(job.pk, "worker", lambda *_: shards(job) and Job.objects.cancel(job.pk))
    assert shards(job)
    path.write_text('{"text": "the quick brown fox"}\n')
    assert Job.objects.requeue(job.pk) and Job.objects.claim(job.pk, "worker")
    run(job.pk, "worker")
    job.refresh_from_db()
    assert job.run is not None
    assert job.run.n_documents == 1


def test_a_failure_while_writing_leaves_nothing(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(ingest, "_write_labels", full)  # the last of the writes
    job = claimed(tiny_folder)
    run(job.pk, "worker")
    job.refresh_from_db()
    assert job.state == Job.State.FAILED
    assert "No space left on device" in job.error
    assert nothing_is_written()


@pytest.mark.parametrize("valid", [True, False])
def test_a_later_run_changes_the_labels_of_rules_alone_and_only_if_valid(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, valid: bool
):
    if valid:  # random weights explain little: lower the bar
        monkeypatch.setattr(quality, "MIN_EXPLAINED_VARIANCE", -10)
    first = claimed(tiny_folder)
    run(first.pk, "worker")
    labelled = Label.objects.select_related("feature").order_by("feature__index")[:2]
    mine, theirs = (label.feature for label in labelled)
    mine.label = Label.objects.create(feature=mine, text="my words", source=Label.Source.PERSON)
    mine.save(update_fields=["label"])
    second = claimed(tiny_folder)
    run(second.pk, "worker")
    for feature in (mine, theirs):
        feature.refresh_from_db()
    assert mine.label is not None and mine.label.text == "my words"
    assert theirs.label is not None and theirs.label.run is not None
    for job in (first, second):
        job.refresh_from_db()
    assert theirs.label.run_id == (second if valid else first).run_id


def test_a_job_cancelled_while_it_writes_leaves_no_run(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    write = ingest._write_labels

    def cancel_then_write(*args: Any) -> None:
        Job.objects.cancel(job.pk)
        write(*args)

    monkeypatch.setattr(ingest, "_write_labels", cancel_then_write)
    job = claimed(tiny_folder)
    run(job.pk, "worker")
    assert nothing_is_written()


def test_a_window_longer_than_the_model_reads_is_refused(tiny_folder: Path):
    job = create_extraction(tiny_request(tiny_folder, context=300), owner=None)
    assert Job.objects.claim(job.pk, "worker")
    run(job.pk, "worker")
    job.refresh_from_db()
    assert job.error == "A context of 300 tokens is too long: model reads 256 at most."


def test_a_checkpoint_that_was_moved_is_found_at_its_new_place(tiny_folder: Path, tmp_path: Path):
    run(claimed(tiny_folder).pk, "worker")
    shutil.copytree(tiny_folder / "sae", tmp_path / "moved")
    run(claimed(tiny_folder, sae=str(tmp_path / "moved")).pk, "worker")
    assert SAE.objects.get().source == str(tmp_path / "moved")
