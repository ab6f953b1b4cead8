"""What the workers run. A task takes an id, and a row that is gone or taken is no error."""

import os
import socket

from celery import shared_task

from jobs.models import SILENT_AFTER, Job

MAX_ATTEMPTS = 3


@shared_task
def run_extraction(job_id: int) -> None:
    """Run the extraction job with this id, if it is still to be run."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    if not Job.objects.claim(job_id, worker):
        # Delivered again because its worker died, perhaps: look again once that worker has been silent for long.
        if Job.objects.filter(pk=job_id, state=Job.State.RUNNING, attempts__lt=MAX_ATTEMPTS).exists():
            run_extraction.apply_async((job_id,), countdown=SILENT_AFTER.total_seconds())
        return
    from jobs.runner import run  # torch and transformers: the web imports this module, but never calls this

    run(job_id, worker)
