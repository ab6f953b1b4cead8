"""Writes to jobs. A job is dispatched after its row is committed, with its id alone."""

from typing import Any

from django.db import transaction

from jobs.models import Job
from jobs.requests import ExtractionRequest
from jobs.tasks import TASKS


def create_extraction(request: ExtractionRequest, owner: Any) -> Job:
    """A queued job that nobody has been told of: whoever makes it runs it, or calls ``dispatch``."""
    return Job.objects.create(kind=Job.Kind.EXTRACTION, settings=request.as_json(), owner=owner)


def queue_extraction(request: ExtractionRequest, owner: Any) -> Job:
    """A queued job, sent to the workers once the transaction around this call is committed."""
    job = create_extraction(request, owner)
    dispatch(job)
    return job


def dispatch(job: Job) -> None:
    transaction.on_commit(lambda: TASKS[job.kind].delay(job.pk))


def retry(job: Job) -> bool:
    """Send a job to the workers again. False if it is done, or workers are at all of it.

    One that failed or was cancelled is queued first. One that waits, or has lost a worker, is only sent once more:
    however often it is sent, each piece of it is claimed by one worker.
    """
    if not Job.objects.requeue(job.pk) and not Job.objects.claimable().filter(pk=job.pk).exists():
        return False
    dispatch(job)
    return True
