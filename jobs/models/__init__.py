from jobs.models.checkpoint import Checkpoint
from jobs.models.job import LONG_WAIT, SILENT_AFTER, Job
from jobs.models.leases import MAX_FAILURES, MAX_LOST
from jobs.models.shard import Shard
from jobs.models.transfer import Import
from jobs.models.trial import Trial
from jobs.models.worker import Worker

__all__ = [
    "LONG_WAIT",
    "MAX_FAILURES",
    "MAX_LOST",
    "SILENT_AFTER",
    "Checkpoint",
    "Import",
    "Job",
    "Shard",
    "Trial",
    "Worker",
]
