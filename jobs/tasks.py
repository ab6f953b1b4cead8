"""What the workers run. A message says no more than that there is work at a job; its rows say which."""

import logging

from celery import shared_task
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)
MAX_INVITED = 64


@shared_task
def run_extraction(job_id: int) -> None:
    """Take part in the extraction job with this id, as long as there is something to do. It may be gone, or done."""
    from jobs.work.loop import own_name, work  # torch and transformers: the web imports this module, but never calls it

    work(job_id, own_name(), invite=invite)


@shared_task
def read_checkpoint(checkpoint_id: int) -> None:
    """Read the SAE that somebody added, unless it is gone or another worker is at it."""
    from jobs.work.checkpoint import read

    read(checkpoint_id)


def invite(job_id: int, n: int) -> None:
    """Tell ``n`` more workers that there is work at the job. Nothing depends on it: the sweepers tell them, too."""
    try:
        for _ in range(min(n, MAX_INVITED)):
            run_extraction.apply_async((job_id,), retry=False)
    except (OperationalError, RedisError, OSError) as error:
        logger.warning("no worker was invited to job %s: %s", job_id, error)


def ask_to_read(checkpoint_id: int) -> None:
    """Tell a worker of an SAE that waits to be read. If it cannot be told, a sweeper will."""
    try:
        read_checkpoint.apply_async((checkpoint_id,), retry=False)
    except (OperationalError, RedisError, OSError) as error:
        logger.warning("no worker was told of checkpoint %s: %s", checkpoint_id, error)
