"""What every worker does now and then: send again what nobody knows of, and delete what nobody needs."""

import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone
from redis import Redis

from jobs import files, sweep
from jobs.models import Job, Shard
from jobs.tasks import invite
from tests.jobs.conftest import MakeJob
from tests.jobs.test_models import extracting, long_ago
from tests.jobs.test_services import sent

pytestmark = pytest.mark.django_db


def test_work_that_nobody_knows_of_is_sent_once(make_job: MakeJob, broker: Redis) -> None:
    queued, lost, busy = make_job(), extracting(make_job), extracting(make_job, 1)
    make_job(Job.State.DONE)
    shard = Shard.objects.claim(lost.pk, "gone")
    assert shard and Shard.objects.claim(busy.pk, "here")
    Shard.objects.filter(pk=shard.pk).update(heartbeat_at=long_ago())
    for _ in range(2):  # the second finds messages that nobody has taken yet
        sweep.sweep()
        assert {args[0][0] for _, args in sent(broker)} == {queued.pk, lost.pk}
        assert broker.llen("extract") == 2


def test_a_job_that_was_tried_for_too_long_is_ended(make_job: MakeJob, broker: Redis) -> None:
    job = make_job()
    Job.objects.claim(job.pk, "gone")
    Job.objects.filter(pk=job.pk).update(heartbeat_at=long_ago(), lost=24)
    sweep.sweep()
    job.refresh_from_db()
    assert job.state == Job.State.FAILED
    assert job.error.startswith("25 workers were lost while planning it: ")
    assert broker.llen("extract") == 0


def test_files_go_when_no_job_needs_them(make_job: MakeJob, broker: Redis, tmp_path: Path) -> None:
    def with_files(pk: int) -> int:
        (tmp_path / "made").write_bytes(b"x")
        files.hand_over(tmp_path / "made", f"{files.folder(pk, 'a1b2')}/tokens-1/ids.i32")
        (files.scratch(pk) / "a1b2").mkdir(parents=True)
        return pk

    now, old = timezone.now(), timezone.now() - timedelta(days=8)
    kept = [with_files(make_job(state, finished_at=now).pk) for state in ("queued", "failed", "cancelled")]
    for state in ("done", "failed", "cancelled"):
        with_files(make_job(state, finished_at=old).pk)
    with_files(12_345)
    (Path(settings.VAR_DIR) / "files" / "jobs" / "of somebody else").mkdir()
    sweep.sweep()
    assert sorted(files.stored_jobs()) == sorted(files.scratch_jobs()) == sorted(kept)
    assert (Path(settings.VAR_DIR) / "files" / "jobs" / "of somebody else").exists()


def test_a_sweeper_outlives_an_outage(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    swept, twice, ended = [], threading.Event(), threading.Event()

    def fails(**_: Any) -> None:
        swept.append(1)
        if len(swept) > 1:
            twice.set()
        raise ConnectionError("Redis is away")

    monkeypatch.setattr(sweep, "sweep", fails)
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)  # it would stay for all other tests
    settings.SWEEP_SECONDS = 0.01
    thread = sweep.start(ended)
    assert twice.wait(10)
    ended.set()
    thread.join(10)
    assert not thread.is_alive()


def test_a_broker_that_is_away_is_no_error_of_the_planner(no_broker: None) -> None:
    invite(1, 3)
