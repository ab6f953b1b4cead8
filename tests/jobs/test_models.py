"""The states of a job: every change is one conditional UPDATE."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.utils import timezone

from jobs.models import LONG_WAIT, MAX_FAILURES, Job, Shard
from tests import factories
from tests.jobs.conftest import MakeJob

LIVE = [Job.State.QUEUED, Job.State.RUNNING]
ENDED = [Job.State.DONE, Job.State.FAILED, Job.State.CANCELLED]


def long_ago() -> Any:
    return timezone.now() - timedelta(seconds=settings.LEASE_SECONDS + 1)


def extracting(make_job: MakeJob, n: int = 2) -> Job:
    """A job that has just been planned, in ``n`` shards of 10 tokens."""
    job = make_job()
    assert Job.objects.claim(job.pk, "planner")
    parts = [Shard(job=job, number=i, first_batch=i, n_batches=1, n_contexts=1, n_tokens=10) for i in range(n)]
    assert Job.objects.planned(job.pk, "planner", {"identity": "a"}, parts)
    job.refresh_from_db()
    return job


def test_of_two_workers_one_gets_the_job(make_job: MakeJob) -> None:
    job = make_job()
    assert [Job.objects.claim(job.pk, "a:1"), Job.objects.claim(job.pk, "b:2")] == [True, False]
    job.refresh_from_db()
    assert (job.state, job.worker, job.attempts) == (Job.State.RUNNING, "a:1", 1)
    assert job.started_at is not None


@pytest.mark.parametrize("state", ENDED)
def test_an_ended_job_cannot_be_claimed(make_job: MakeJob, state: str) -> None:
    assert not Job.objects.claim(make_job(state).pk, "a:1")


def test_a_silent_worker_loses_its_job_to_the_next(make_job: MakeJob) -> None:
    job = make_job()
    Job.objects.claim(job.pk, "a:1")
    Job.objects.filter(pk=job.pk).update(heartbeat_at=long_ago())
    assert Job.objects.claim(job.pk, "b:2")
    assert not Job.objects.beat(job.pk, "a:1", done=5)
    assert Job.objects.beat(job.pk, "b:2", done=7)
    job.refresh_from_db()
    assert (job.worker, job.attempts, job.lost, job.done) == ("b:2", 2, 1, 7)


def test_the_database_keeps_the_time_of_leases(make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job = make_job()
    Job.objects.claim(job.pk, "a:1")
    monkeypatch.setattr(timezone, "now", lambda: long_ago() + timedelta(days=400))  # a worker with a wrong clock
    assert not Job.objects.claim(job.pk, "b:2")


def test_each_shard_has_one_worker_and_the_end_waits_for_all(make_job: MakeJob) -> None:
    job = extracting(make_job)
    taken = [Shard.objects.claim(job.pk, name) for name in ("a", "b", "c")]
    assert [shard and shard.number for shard in taken] == [0, 1, None]
    first, second = (shard for shard in taken if shard)
    assert not Shard.objects.finish(first.pk, "b", file="b's")
    assert Shard.objects.finish(first.pk, "a", file="a's")
    assert not Shard.objects.finish(first.pk, "a", file="again")
    assert not Job.objects.claim_finish(job.pk, "a")
    assert Shard.objects.finish(second.pk, "b", file="b's")
    assert [Job.objects.claim_finish(job.pk, name) for name in ("a", "b")] == [True, False]


def test_the_progress_of_a_job_is_that_of_its_shards(make_job: MakeJob) -> None:
    job = extracting(make_job)
    one, two = (Shard.objects.claim(job.pk, name) for name in ("a", "b"))
    assert one and two
    assert Shard.objects.beat(one.pk, "a", done=4, rate=2.0)
    assert Shard.objects.beat(two.pk, "b", done=5, rate=3.0)
    Job.objects.add_up(job.pk)
    job.refresh_from_db()
    assert (job.done, job.total, job.rate, job.seconds_left) == (9, 20, 5.0, 11 / 5)
    assert Shard.objects.finish(one.pk, "a", file="x", seconds=1.0)
    Job.objects.add_up(job.pk)
    job.refresh_from_db()
    assert (job.done, job.rate) == (15, 3.0)


def test_cancelling_takes_the_shards_from_their_workers_and_keeps_what_is_done(make_job: MakeJob) -> None:
    job = extracting(make_job)
    one, two = (Shard.objects.claim(job.pk, name) for name in ("a", "b"))
    assert one and two
    assert Shard.objects.finish(one.pk, "a", file="x")
    assert Job.objects.cancel(job.pk)
    assert not Shard.objects.beat(two.pk, "b")
    assert not Shard.objects.finish(two.pk, "b", file="y")
    assert Job.objects.requeue(job.pk) and Job.objects.claim(job.pk, "planner")
    parts = [Shard(job=job, number=i, first_batch=i, n_batches=1, n_contexts=1, n_tokens=10) for i in range(2)]
    assert Job.objects.planned(job.pk, "planner", {"identity": "a"}, parts)
    assert list(job.shards.values_list("state", "file")) == [("done", "x"), ("waiting", "")]
    assert Job.objects.cancel(job.pk) and Job.objects.requeue(job.pk) and Job.objects.claim(job.pk, "planner")
    assert Job.objects.planned(job.pk, "planner", {"identity": "b"}, parts)
    assert list(job.shards.values_list("state", "file")) == [("waiting", ""), ("waiting", "")]


def test_failures_are_counted_and_the_last_one_is_final(make_job: MakeJob) -> None:
    job = extracting(make_job, 1)
    for n in range(1, MAX_FAILURES + 1):
        shard = Shard.objects.claim(job.pk, "a")
        assert shard and Shard.objects.fail(shard.pk, "other", "no") is None
        assert Shard.objects.fail(shard.pk, "a", f"no {n}\0") == n
    shard = job.shards.get()
    assert (shard.state, shard.error) == ("failed", "no 3\N{REPLACEMENT CHARACTER}")
    assert Shard.objects.claim(job.pk, "a") is None
    assert Job.objects.give_up(job.pk)  # whoever looks next, should the worker die in between
    job.refresh_from_db()
    assert job.state == Job.State.FAILED
    assert "Shard 0 failed 3 times" in job.error


def test_claimable_jobs_are_those_with_something_to_do(make_job: MakeJob) -> None:
    def is_claimable(job: Job) -> bool:
        return Job.objects.claimable().filter(pk=job.pk).exists()

    job = make_job()
    assert is_claimable(job)
    Job.objects.claim(job.pk, "planner")
    assert not is_claimable(job)
    Job.objects.filter(pk=job.pk).update(heartbeat_at=long_ago())
    assert is_claimable(job)
    job = extracting(make_job, 1)
    assert is_claimable(job)
    shard = Shard.objects.claim(job.pk, "a")
    assert shard and not is_claimable(job)
    Shard.objects.filter(pk=shard.pk).update(heartbeat_at=long_ago())
    assert is_claimable(job)
    assert Shard.objects.finish(shard.pk, "a", file="x") and is_claimable(job)
    assert Job.objects.claim_finish(job.pk, "a") and not is_claimable(job)
    for state in ENDED:
        assert not is_claimable(make_job(state))


def test_a_note_is_made_once(make_job: MakeJob) -> None:
    job = make_job()
    for text in ("one", "two", "one"):
        Job.objects.note(job.pk, text)
    job.refresh_from_db()
    assert job.note_lines == ["one", "two"]


def test_after_a_cancel_the_worker_can_write_nothing(make_job: MakeJob, world: factories.World) -> None:
    job = make_job()
    Job.objects.claim(job.pk, "a:1")
    assert Job.objects.cancel(job.pk)
    assert not Job.objects.beat(job.pk, "a:1", done=5)
    assert not Job.objects.finish(job.pk, "a:1", world.run)
    assert not Job.objects.fail(job.pk, "a:1", "too late")
    job.refresh_from_db()
    assert (job.state, job.done, job.run, job.error) == (Job.State.CANCELLED, 0, None, "")


@pytest.mark.parametrize("state", ENDED)
def test_an_ended_job_cannot_be_cancelled(make_job: MakeJob, state: str) -> None:
    assert not Job.objects.cancel(make_job(state).pk)


def test_finish_and_fail_end_the_job(make_job: MakeJob, world: factories.World) -> None:
    good, bad = make_job(), make_job()
    for job in (good, bad):
        Job.objects.claim(job.pk, "a:1")
    assert Job.objects.finish(good.pk, "a:1", world.run)
    assert Job.objects.fail(bad.pk, "a:1", "x" * 5000)
    good.refresh_from_db()
    bad.refresh_from_db()
    assert (good.state, good.run, good.fraction) == (Job.State.DONE, world.run, 1.0)
    assert (bad.state, len(bad.error)) == (Job.State.FAILED, 2000)


@pytest.mark.parametrize("state", [Job.State.FAILED, Job.State.CANCELLED])
def test_requeue_begins_with_a_clean_row(make_job: MakeJob, state: str) -> None:
    now = timezone.now()
    job = make_job(state, error="no", worker="a:1", stage="extracting", done=5, total=9, started_at=now, attempts=1)
    assert Job.objects.requeue(job.pk)
    job.refresh_from_db()
    assert (job.state, job.error, job.worker, job.stage) == (Job.State.QUEUED, "", "", "")
    assert (job.fraction, job.seconds, job.attempts) == (0.0, None, 1)


@pytest.mark.parametrize("state", [*LIVE, Job.State.DONE])
def test_only_failed_and_cancelled_jobs_are_requeued(make_job: MakeJob, state: str) -> None:
    assert not Job.objects.requeue(make_job(state).pk)


def test_a_job_nobody_came_for_can_be_sent_again(make_job: MakeJob) -> None:
    fresh = make_job()
    old = make_job(created_at=timezone.now() - LONG_WAIT - timedelta(seconds=1))
    old.refresh_from_db()
    assert not fresh.can_send_again
    assert old.waits_long
    assert old.can_send_again


def test_time_left_is_never_negative(make_job: MakeJob) -> None:
    assert make_job(Job.State.RUNNING, done=130, total=128, rate=10.0).seconds_left == 0
    assert make_job(Job.State.RUNNING, done=28, total=128, rate=10.0).seconds_left == 10
    assert make_job(Job.State.RUNNING).seconds_left is None


def test_live_jobs_are_oldest_first_and_ended_ones_newest_first(make_job: MakeJob) -> None:
    made = {state: [make_job(state).pk, make_job(state).pk] for state in Job.State}
    live = [job.pk for job in Job.objects.live()]
    ended = [job.pk for job in Job.objects.ended_before(None)]
    assert live == sorted(pk for state in LIVE for pk in made[state])
    assert ended == sorted((pk for state in ENDED for pk in made[state]), reverse=True)
    assert [job.pk for job in Job.objects.ended_before(ended[1])] == ended[2:]
