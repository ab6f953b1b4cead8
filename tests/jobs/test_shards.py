"""Shards: however many, whoever reads them in whatever order, and whatever happens, the rows are the same."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from django.conf import settings
from django.test import Client
from django.utils import timezone

from jobs import files
from jobs.engine import extraction
from jobs.engine.capture import Capture
from jobs.engine.errors import SettingsError
from jobs.models import MAX_LOST, Job, Shard
from jobs.work import shard as work_shard
from jobs.work.loaded import check_same
from jobs.work.plan import MAX_FILES, SHARD_TOKENS, cut
from tests.jobs.helpers import a_worker, done, nothing_is_left, rows_of, stored, tiny_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def plain(tiny_folder: Path) -> dict[str, Any]:
    """The rows of a run that one worker made from one shard."""
    job = done(tiny_job(tiny_folder, shards=1))
    assert job.state == Job.State.DONE, job.traceback
    return rows_of(job.run)


def planned(folder: Path, **changes: Any) -> Job:
    job = tiny_job(folder, **changes)
    assert a_worker(job, "planner").step()
    job.refresh_from_db()
    assert job.phase == Job.Phase.EXTRACTING, job.traceback
    return job


def silence(*rows: Any) -> None:
    """Let the leases of all workers expire."""
    for row in rows:
        row.update(heartbeat_at=timezone.now() - timedelta(seconds=settings.LEASE_SECONDS + 1))


def test_a_shard_for_every_batch_gives_the_rows_of_one(tiny_folder: Path, plain: dict[str, Any]):
    job = done(tiny_job(tiny_folder, shards=99))
    assert job.run and len(job.run.work) == 6
    assert rows_of(job.run) == plain


def test_two_workers_that_take_turns_give_the_rows_of_one(tiny_folder: Path, plain: dict[str, Any]):
    job = tiny_job(tiny_folder, shards=7)
    workers = [a_worker(job, "one"), a_worker(job, "two")]
    turn = 0
    while workers[turn % 2].step():
        turn += 1
    job.refresh_from_db()
    assert job.run and {w["worker"] for w in job.run.work} == {"one", "two"}
    assert rows_of(job.run) == plain


@pytest.mark.parametrize(
    ("tokens", "wanted", "sizes"),
    [
        ([10] * 5, 2, [3, 2]),
        ([10] * 2, 9, [1, 1]),
        ([10] * 5, None, [5]),
        ([SHARD_TOKENS] * 3 + [1], None, [1, 1, 2]),
        ([SHARD_TOKENS // 2] * 4, None, [2, 2]),
    ],
)
def test_batches_are_cut_into_shards(tokens: list[int], wanted: int | None, sizes: list[int]):
    assert cut(np.array(tokens), wanted) == sizes


def test_a_long_corpus_is_cut_into_a_bounded_number_of_shards():
    sizes = cut(np.full(10_000, SHARD_TOKENS), None)
    assert sum(sizes) == 10_000
    assert MAX_FILES // 2 < len(sizes) <= MAX_FILES


def test_work_that_is_told_of_twice_is_done_once(tiny_folder: Path, plain: dict[str, Any]):
    job = planned(tiny_folder)
    first, second = Shard.objects.claim(job.pk, "one"), Shard.objects.claim(job.pk, "two")
    assert first and second and first.number != second.number
    assert not Job.objects.claim_finish(job.pk, "one")
    silence(Shard.objects.filter(job=job))
    done(job, "three")  # both workers were lost, by all that it can know
    assert rows_of(job.run) == plain
    before = rows_of(job.run)
    done(job, "four")
    assert rows_of(job.run) == before
    assert Job.objects.get(pk=job.pk).attempts == 1
    assert job.run and [w["attempts"] for w in job.run.work] == [2, 2, 1]


def test_one_who_comes_late_deletes_his_file(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    job = planned(tiny_folder)
    late = a_worker(job, "late")
    store = work_shard._store

    def taken_over_meanwhile(*args: Any) -> str:
        name = store(*args)
        monkeypatch.setattr(work_shard, "_store", store)
        silence(Shard.objects.filter(job=job, state="running"))
        assert a_worker(job, "quick").step()
        return name

    monkeypatch.setattr(work_shard, "_store", taken_over_meanwhile)
    assert late.step()
    kept = job.shards.get(number=0)
    assert (kept.worker, kept.lost) == ("quick", 1)
    assert list(stored(job)) == [Path(kept.file).name]


def test_a_damaged_file_and_a_missing_one_are_made_again(tiny_folder: Path, plain: dict[str, Any]):
    job = planned(tiny_folder)
    worker = a_worker(job, "one")
    while Shard.objects.exclude(state="done").exists():
        assert worker.step()
    folder = Path(settings.VAR_DIR) / "files"
    broken, missing = (folder / job.shards.get(number=n).file for n in (0, 2))
    broken.write_bytes(broken.read_bytes()[:-100])
    missing.unlink()
    done(job)
    assert rows_of(job.run) == plain
    assert job.run and [w["attempts"] for w in job.run.work] == [2, 1, 2]
    assert "Shard 0: its file was gone or damaged, so it was read again." in job.note_lines
    assert nothing_is_left(job)


def test_the_third_failure_of_a_shard_ends_the_job(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, as_owner: Client
):
    numbers = []

    def breaks(*args: Any) -> None:
        numbers.append(len(args))
        raise OSError("<b>the disk</b> is on fire")

    monkeypatch.setattr("jobs.work.shard.extract", breaks)
    job = done(tiny_job(tiny_folder, shards=1))
    assert job.state == Job.State.FAILED
    assert len(numbers) == 3
    assert "Shard 0 failed 3 times" in job.error
    page = as_owner.get(job.get_absolute_url()).content.decode()
    assert "Traceback (most recent call last)" in page
    assert "&lt;b&gt;the disk&lt;/b&gt; is on fire" in page
    assert "<b>the disk" not in page


def test_an_error_that_names_its_cause_ends_the_job_at_once(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch):
    tries = []

    def refuses(*args: Any):
        tries.append(1)
        raise SettingsError("The file says no.")

    monkeypatch.setattr("jobs.work.shard.extract", refuses)
    job = done(tiny_job(tiny_folder))
    assert (job.state, job.error, len(tries)) == (Job.State.FAILED, "The file says no.", 1)


def test_one_failure_is_made_good(tiny_folder: Path, plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    extract, failed = extraction.extract, list[int]()

    def breaks_once(*args: Any):
        if not failed:
            failed.append(1)
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return extract(*args)

    monkeypatch.setattr("jobs.work.shard.extract", breaks_once)
    assert rows_of(done(tiny_job(tiny_folder)).run) == plain


def test_a_shard_that_loses_every_worker_ends_the_job(tiny_folder: Path):
    job = planned(tiny_folder)
    for n in range(MAX_LOST):
        assert not Job.objects.give_up(job.pk)
        taken = Shard.objects.claim(job.pk, f"worker-{n}")
        assert taken and (taken.number, taken.lost, taken.failures) == (0, n, 0)
        silence(Shard.objects.filter(job=job))
    done(job, "next")
    assert job.state == Job.State.FAILED
    assert job.error.startswith("25 workers were lost at shard 0: they were killed")
    assert Job.objects.requeue(job.pk)
    assert job.shards.get(number=0).lost == 0
    assert done(job).state == Job.State.DONE


def test_out_of_memory_halves_the_batches_and_says_so(
    tiny_folder: Path, plain: dict[str, Any], monkeypatch: pytest.MonkeyPatch, as_owner: Client
):
    run = Capture.run

    def small(self: Capture, contexts: Any) -> Any:
        if len(contexts) > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return run(self, contexts)

    monkeypatch.setattr(Capture, "run", small)
    job = done(tiny_job(tiny_folder))
    assert job.state == Job.State.DONE, job.traceback
    said = "out of memory: went on with at most"
    assert job.run and all(said in w["note"] for w in job.run.work)
    page = as_owner.get(job.get_absolute_url()).content.decode()
    assert f"Shard 0: {said} 32 contexts at a time." in page
    assert [a["n_firing"] for a in rows_of(job.run)["activities"]] == [a["n_firing"] for a in plain["activities"]]


@pytest.mark.parametrize("what", ["model", "sae", "commit"])
def test_a_worker_that_would_compute_something_else_says_so(tiny_folder: Path, what: str):
    job = planned(tiny_folder)
    plan = job.plan
    if what == "commit":
        plan["made_with"]["commit"] = "0" * 40
    else:
        plan["made_with"][what]["weights" if what == "model" else "digest"] = "0" * 64
    Job.objects.filter(pk=job.pk).update(plan=plan)
    done(job)
    assert job.state == Job.State.FAILED
    assert "is not what the job was planned with" in job.error
    assert "000000000000" in job.error


def test_the_same_worker_agrees_with_its_own_plan(tiny_folder: Path):
    job = tiny_job(tiny_folder)
    worker = a_worker(job, "one")
    assert worker.step()
    job.refresh_from_db()
    assert worker.loaded
    check_same(worker.loaded, job.plan)


def test_a_worker_without_the_planned_kind_of_device_leaves_the_shards_alone(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    job = planned(tiny_folder)
    Job.objects.filter(pk=job.pk).update(plan=job.plan | {"device": "cuda"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    done(job)
    assert job.state == Job.State.RUNNING
    assert {s.state for s in job.shards.all()} == {"waiting"}


def test_a_planner_and_a_finisher_that_were_lost_are_replaced(tiny_folder: Path, plain: dict[str, Any]):
    job = tiny_job(tiny_folder)
    assert Job.objects.claim(job.pk, "lost")
    silence(Job.objects.filter(pk=job.pk))
    worker = a_worker(job, "one")
    while not Job.objects.in_phase(Job.Phase.EXTRACTING).exists() or Shard.objects.exclude(state="done").exists():
        assert worker.step()
    assert Job.objects.claim_finish(job.pk, "lost")
    assert not worker.step()
    silence(Job.objects.filter(pk=job.pk))
    assert worker.step()
    job.refresh_from_db()
    assert rows_of(job.run) == plain


def test_what_is_not_done_is_sent_to_the_workers_and_what_is_done_leaves_nothing(tiny_folder: Path):
    invited: list[tuple[int, int]] = []
    job = tiny_job(tiny_folder, shards=4)
    worker = a_worker(job, "one")
    worker.invite = lambda *args: invited.append(args)
    worker.run()
    assert invited == [(job.pk, 3)]
    assert not files.scratch_jobs() and not files.stored_jobs()
