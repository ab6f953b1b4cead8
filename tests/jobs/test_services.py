"""What is written, and what reaches the workers: checked in the queue of a real Redis."""

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from kombu.exceptions import OperationalError
from redis import Redis

from jobs import services
from jobs.models import Job
from jobs.requests import ExtractionRequest
from tests.jobs.conftest import MakeJob

REQUEST = ExtractionRequest("lm", "sae-l6", "texts", tokens=1000)


def sent(broker: Redis, queue: str = "extract") -> list[Any]:
    """Task and arguments of every message in the queue, oldest first."""
    messages = [json.loads(raw) for raw in reversed(broker.lrange(queue, 0, -1))]
    return [(m["headers"]["task"], json.loads(base64.b64decode(m["body"]))[:2]) for m in messages]


def test_a_job_is_sent_after_the_commit_with_its_id_alone(
    owner: User, broker: Redis, django_capture_on_commit_callbacks: Any
) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        job = services.queue_extraction(REQUEST, owner)
        assert sent(broker) == []
    assert sent(broker) == [("jobs.tasks.run_extraction", [[job.pk], {}])]
    job.refresh_from_db()
    assert (job.state, job.owner, job.settings) == (Job.State.QUEUED, owner, REQUEST.as_json())


def test_create_tells_nobody(owner: User, broker: Redis, django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        services.create_extraction(REQUEST, owner)
    assert callbacks == []


@pytest.mark.parametrize("state", [Job.State.QUEUED, Job.State.FAILED, Job.State.CANCELLED])
def test_retry_sends_again(
    make_job: MakeJob, broker: Redis, state: str, django_capture_on_commit_callbacks: Any
) -> None:
    job = make_job(state)
    with django_capture_on_commit_callbacks(execute=True):
        assert services.retry(job)
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED
    assert [args[0] for _, args in sent(broker)] == [[job.pk]]


def test_retry_sends_a_silent_job_but_leaves_it_to_its_next_worker(
    make_job: MakeJob, broker: Redis, django_capture_on_commit_callbacks: Any
) -> None:
    job = make_job(Job.State.RUNNING, worker="a:1", heartbeat_at=timezone.now() - timedelta(hours=1))
    with django_capture_on_commit_callbacks(execute=True):
        assert services.retry(job)
    assert broker.llen("extract") == 1
    job.refresh_from_db()
    assert (job.state, job.worker) == (Job.State.RUNNING, "a:1")


@pytest.mark.parametrize("state", [Job.State.RUNNING, Job.State.DONE])
def test_a_job_that_is_done_or_in_good_hands_is_not_sent(
    make_job: MakeJob, state: str, django_capture_on_commit_callbacks: Any
) -> None:
    job = make_job(state, worker="a:1", heartbeat_at=timezone.now())
    with django_capture_on_commit_callbacks() as callbacks:
        assert not services.retry(job)
    assert callbacks == []


@pytest.mark.django_db(transaction=True)
def test_without_a_broker_the_job_is_there_all_the_same(no_broker: None, owner: User) -> None:
    with pytest.raises(OperationalError):
        services.queue_extraction(REQUEST, owner)
    assert [job.state for job in Job.objects.all()] == [Job.State.QUEUED]
