"""The states of a job: every change is one conditional UPDATE."""

from datetime import timedelta

import pytest
from django.utils import timezone

from jobs.models import LONG_WAIT, SILENT_AFTER, Job
from tests import factories
from tests.jobs.conftest import MakeJob

LIVE = [Job.State.QUEUED, Job.State.RUNNING]
ENDED = [Job.State.DONE, Job.State.FAILED, Job.State.CANCELLED]


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
    Job.objects.filter(pk=job.pk).update(heartbeat_at=timezone.now() - SILENT_AFTER - timedelta(seconds=1))
    assert Job.objects.claim(job.pk, "b:2")
    assert not Job.objects.beat(job.pk, "a:1", done=5)
    assert Job.objects.beat(job.pk, "b:2", done=7)
    job.refresh_from_db()
    assert (job.worker, job.attempts, job.done) == ("b:2", 2, 7)


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
