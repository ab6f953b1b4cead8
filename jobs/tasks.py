"""What the workers run. A message says no more than that there is work at a job; its rows say which."""

import logging
from typing import Any

from celery import shared_task
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from jobs import presence

logger = logging.getLogger(__name__)
MAX_INVITED = 64


@shared_task
def run_extraction(job_id: int) -> None:
    """Take part in the extraction job with this id, as long as there is something to do. It may be gone, or done."""
    with presence.doing(f"job {job_id}", job_id):
        from jobs.work.loop import work  # torch and transformers: the web imports this module, but never calls it

        work(job_id, presence.own_name(), invite=invite)


@shared_task
def draw_map(job_id: int) -> None:
    """Draw the map that the job with this id is to make, unless it is gone or another worker is at it."""
    with presence.doing(f"job {job_id}", job_id):
        from jobs.work.loop import work

        work(job_id, presence.own_name())


@shared_task
def read_checkpoint(checkpoint_id: int) -> None:
    """Read the SAE that somebody added, unless it is gone or another worker is at it."""
    with presence.doing(f"reading added SAE {checkpoint_id}"):
        from jobs.work.checkpoint import read

        read(checkpoint_id)


@shared_task
def read_import(import_id: int) -> None:
    """Read the files of this import, unless it is gone or another worker is at it."""
    with presence.doing(f"import {import_id}"):
        from jobs.work.importing import read

        read(import_id)


@shared_task
def try_text(trial_id: int) -> None:
    """Run the text of this trial, unless it is gone or another worker is at it."""
    with presence.doing("trying a text"):
        from jobs.work.trial import answer

        answer(trial_id)


TASKS: dict[str, Any] = {"extraction": run_extraction, "map": draw_map}
"""By the kind of job."""


def invite(job_id: int, n: int, kind: str = "extraction") -> None:
    """Tell ``n`` more workers that there is work at the job. Nothing depends on it: the sweepers tell them, too."""
    try:
        for _ in range(min(n, MAX_INVITED)):
            TASKS[kind].apply_async((job_id,), retry=False)
    except (OperationalError, RedisError, OSError) as error:
        logger.warning("no worker was invited to job %s: %s", job_id, error)


def ask_to_try(trial_id: int) -> None:
    """Tell a worker of a text that waits. If it cannot be told, a sweeper will."""
    try:
        try_text.apply_async((trial_id,), retry=False)
    except (OperationalError, RedisError, OSError) as error:
        logger.warning("no worker was told of trial %s: %s", trial_id, error)


def ask_to_import(import_id: int) -> None:
    """Tell a worker of files that wait to be imported. If it cannot be told, a sweeper will."""
    try:
        read_import.apply_async((import_id,), retry=False)
    except (OperationalError, RedisError, OSError) as error:
        logger.warning("no worker was told of import %s: %s", import_id, error)


def ask_to_read(checkpoint_id: int) -> None:
    """Tell a worker of an SAE that waits to be read. If it cannot be told, a sweeper will."""
    try:
        read_checkpoint.apply_async((checkpoint_id,), retry=False)
    except (OperationalError, RedisError, OSError) as error:
        logger.warning("no worker was told of checkpoint %s: %s", checkpoint_id, error)
