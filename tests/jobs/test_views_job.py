"""/jobs/<pk>/ and what can be done there. Everybody signed in may look; the owner and staff may change."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from redis import Redis

from jobs.models import LONG_WAIT, SILENT_AFTER, Job, Shard
from tests import factories
from tests.jobs.conftest import MakeJob

HOSTILE = "<script>alert(1)</script>"


def get(client: Client, job: Job, name: str = "job", **query: Any) -> str:
    response = client.get(reverse(name, args=[job.pk]), query)
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("name", ["job", "job_progress"])
def test_a_stranger_must_sign_in(anonymous: Client, make_job: MakeJob, name: str) -> None:
    response = anonymous.get(reverse(name, args=[make_job().pk]))
    assert response.status_code == 302
    assert response.headers["Location"].startswith(reverse("login"))


@pytest.mark.parametrize("name", ["job_cancel", "job_retry"])
def test_a_stranger_changes_nothing(anonymous: Client, make_job: MakeJob, name: str) -> None:
    job = make_job()
    assert anonymous.post(reverse(name, args=[job.pk])).status_code == 302
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED


def test_a_job_that_is_not_there(as_owner: Client) -> None:
    for name in ("job", "job_progress"):
        assert as_owner.get(reverse(name, args=[404])).status_code == 404
    for name in ("job_cancel", "job_retry"):
        assert as_owner.post(reverse(name, args=[404])).status_code == 404


def test_looking_changes_nothing(as_owner: Client, make_job: MakeJob) -> None:
    job = make_job()
    for name in ("job_cancel", "job_retry"):
        assert as_owner.get(reverse(name, args=[job.pk])).status_code == 405


def test_the_owner_and_staff_get_buttons_and_a_member_does_not(
    as_owner: Client, as_staff: Client, as_member: Client, make_job: MakeJob
) -> None:
    live, failed = make_job(), make_job(Job.State.FAILED)
    for client, may in ((as_owner, True), (as_staff, True), (as_member, False)):
        assert ('id="job-cancel"' in get(client, live)) is may
        assert ('id="job-retry"' in get(client, failed)) is may


def test_a_running_job_says_where_it_is(as_member: Client, make_job: MakeJob) -> None:
    now = timezone.now()
    facts = {"worker": "node-3:812", "device": "cuda:0", "attempts": 2, "stage": "extracting"}
    job = make_job(
        Job.State.RUNNING, started_at=now, heartbeat_at=now, done=60_000, total=240_000, rate=2000.0, **facts
    )
    page = get(as_member, job)
    assert 'max="240000" value="60000"' in page
    assert all(words in page for words in ("25 %", "about 2 min", "node-3:812", "cuda:0", "Extracting"))
    assert 'hx-trigger="every 1s"' in page
    assert "<noscript><meta" in page


def test_a_queued_job_asks_for_a_worker_only_after_a_while(as_owner: Client, make_job: MakeJob) -> None:
    assert "make worker" not in get(as_owner, make_job())
    page = get(as_owner, make_job(created_at=timezone.now() - LONG_WAIT - timedelta(seconds=1)))
    assert "make worker" in page
    assert 'id="job-retry"' in page


def test_a_silent_worker_is_told_of(as_owner: Client, make_job: MakeJob) -> None:
    page = get(as_owner, make_job(Job.State.RUNNING, heartbeat_at=timezone.now() - 2 * SILENT_AFTER))
    assert "has not been heard of" in page
    assert 'id="job-retry"' in page


@pytest.mark.parametrize("state", ["done", "failed", "cancelled"])
def test_an_ended_job_no_longer_polls(as_owner: Client, make_job: MakeJob, state: str) -> None:
    job = make_job(state)
    for name in ("job", "job_progress"):
        page = get(as_owner, job, name)
        assert "hx-get" not in page
        assert 'http-equiv="refresh"' not in page


def test_the_fragment_brings_other_buttons_only_when_the_state_has_changed(as_owner: Client, make_job: MakeJob) -> None:
    job = make_job(Job.State.DONE)
    assert "hx-swap-oob" not in get(as_owner, job, "job_progress", seen="done")
    changed = get(as_owner, job, "job_progress", seen="running")
    assert changed.count("hx-swap-oob") == 2
    assert f"Job {job.pk} is done." in changed


def test_a_failure_says_what_happened_and_what_to_do(as_owner: Client, make_job: MakeJob) -> None:
    page = get(as_owner, make_job(Job.State.FAILED, error="cfg.json has no d_in; add it.", stage="loading the SAE"))
    assert all(words in page for words in ("cfg.json has no d_in", "While loading the SAE", "Nothing was added"))


def test_the_shards_of_a_running_job_are_shown(as_member: Client, make_job: MakeJob) -> None:
    job = make_job(Job.State.RUNNING, phase="extracting", stage="extracting", heartbeat_at=timezone.now())
    for number in range(12):
        running = {
            "state": "running",
            "worker": "node-3:8:a1",
            "done": 500,
            "rate": 123.0,
            "attempts": 2,
            "failures": 1,
        }
        values = running if number == 3 else {"state": "done", "worker": HOSTILE, "note": HOSTILE, "seconds": 2.0}
        Shard.objects.create(
            job=job, number=number, first_batch=number, n_batches=1, n_contexts=1, n_tokens=1000, **values
        )
    for name in ("job", "job_progress"):
        page = get(as_member, job, name)
        assert "11 of 12 done, 1 running" in page
        assert "500 of 1,000" in page and "node-3:8:a1" in page and "failures so far: 1" in page
        assert HOSTILE not in page
    assert '<details class="job-parts">' in get(as_member, job)  # many are folded away


def test_a_done_job_shows_what_its_shards_took(as_member: Client, make_job: MakeJob, world: factories.World) -> None:
    part = {"number": 0, "tokens": 9000, "seconds": 3.0, "worker": "w", "device": "cpu", "attempts": 1, "note": HOSTILE}
    world.run.work = [part, part | {"number": 1}]
    world.run.save()
    page = get(as_member, make_job(Job.State.DONE, run=world.run))
    assert "2, all done" in page and "3,000" in page
    assert HOSTILE not in page


def test_a_failure_that_nobody_foresaw_shows_its_traceback(as_owner: Client, make_job: MakeJob) -> None:
    page = get(as_owner, make_job(Job.State.FAILED, error="no", traceback=f"Traceback\n{HOSTILE}"))
    assert "<pre" in page and "Traceback\n&lt;script&gt;" in page
    assert HOSTILE not in page


def test_a_done_job_leads_to_its_features(as_owner: Client, make_job: MakeJob, world: factories.World) -> None:
    page = get(as_owner, make_job(Job.State.DONE, run=world.run))
    assert f'href="{world.sae.get_absolute_url()}?run={world.run.pk}"' in page
    assert f'href="{world.run.get_absolute_url()}"' in page


def test_hostile_text_is_escaped(as_owner: Client, make_job: MakeJob) -> None:
    texts = dict.fromkeys(("error", "stage", "worker", "device"), HOSTILE)
    asked = dict.fromkeys(("model", "sae", "corpus", "hook"), HOSTILE)
    for state in Job.State:
        page = get(as_owner, make_job(state, asked=asked, **texts))
        assert HOSTILE not in page
        assert "&lt;script&gt;" in page


def test_the_number_of_queries_is_small(
    as_owner: Client, make_job: MakeJob, world: factories.World, django_assert_num_queries: Any
) -> None:
    job = make_job(Job.State.DONE, run=world.run)
    for name in ("job", "job_progress"):
        with django_assert_num_queries(3):  # session, user, job
            get(as_owner, job, name)


@pytest.mark.parametrize("state", [Job.State.QUEUED, Job.State.RUNNING])
@pytest.mark.parametrize("who", ["as_owner", "as_staff"])
def test_owner_and_staff_may_cancel(request: Any, make_job: MakeJob, state: str, who: str) -> None:
    client: Client = request.getfixturevalue(who)
    job = make_job(state)
    assert client.post(reverse("job_cancel", args=[job.pk])).headers["Location"] == job.get_absolute_url()
    job.refresh_from_db()
    assert job.state == Job.State.CANCELLED


def test_a_job_that_ended_meanwhile_stays_ended(as_owner: Client, make_job: MakeJob) -> None:
    job = make_job(Job.State.DONE)
    response = as_owner.post(reverse("job_cancel", args=[job.pk]), follow=True)
    assert "had already ended" in response.content.decode()
    job.refresh_from_db()
    assert job.state == Job.State.DONE


@pytest.mark.parametrize(("name", "state"), [("job_cancel", "running"), ("job_retry", "failed")])
def test_a_member_may_not_change_the_job_of_another(
    as_member: Client, make_job: MakeJob, name: str, state: str
) -> None:
    job = make_job(state)
    assert as_member.post(reverse(name, args=[job.pk])).status_code == 403
    job.refresh_from_db()
    assert job.state == state


def test_a_job_without_an_owner_is_for_staff(as_member: Client, as_staff: Client, make_job: MakeJob) -> None:
    job = make_job(owner=None)
    assert as_member.post(reverse("job_cancel", args=[job.pk])).status_code == 403
    assert as_staff.post(reverse("job_cancel", args=[job.pk])).status_code == 302


@pytest.mark.django_db(transaction=True)
def test_retry_reaches_the_queue(broker: Redis, as_owner: Client, make_job: MakeJob) -> None:
    job = make_job(Job.State.FAILED)
    as_owner.post(reverse("job_retry", args=[job.pk]))
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED
    assert broker.llen("extract") == 1


@pytest.mark.django_db(transaction=True)
def test_retry_without_a_queue_says_so(no_broker: None, as_owner: Client, make_job: MakeJob) -> None:
    job = make_job(Job.State.FAILED)
    response = as_owner.post(reverse("job_retry", args=[job.pk]), follow=True)
    assert response.status_code == 200
    assert "cannot be reached" in response.content.decode()
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED


def test_a_done_job_is_not_sent_again(as_owner: Client, make_job: MakeJob) -> None:
    response = as_owner.post(reverse("job_retry", args=[make_job(Job.State.DONE).pk]), follow=True)
    assert "was not sent again" in response.content.decode()
