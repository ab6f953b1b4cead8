"""What the workers run. A task takes an id, and a row that is gone or taken is no error."""

import os
import socket

from celery import shared_task

from jobs.models import Job


@shared_task
def run_extraction(job_id: int) -> None:
    """Run the extraction job with this id, if it is still to be run."""
    worker = f"{socket.gethostname()}:{os.getpid()}"
    if not Job.objects.claim(job_id, worker):
        return
    from jobs.runner import run  # torch and transformers: the web imports this module, but never calls this

    run(job_id, worker)
