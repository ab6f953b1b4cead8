from pathlib import Path
from typing import Any

from django.conf import settings

from features.models import SAE, Activity, Context, Corpus, Feature, Label, LanguageModel, Run
from jobs import files
from jobs.models import Job
from jobs.requests import ExtractionRequest
from jobs.services import create_extraction
from jobs.work.loop import Worker, work

NOT_COMPARED = {"id", "run_id", "feature_id", "owner_id", "created_at", "seconds", "work"}


def tiny_request(folder: Path, **changes: Any) -> ExtractionRequest:
    """A request for the tiny model, SAE and corpus in ``folder``."""
    places = {"model": str(folder / "model"), "sae": str(folder / "sae"), "corpus": str(folder / "corpus.jsonl")}
    return ExtractionRequest(**(places | {"context": 32, "top": 10} | changes))


def tiny_job(folder: Path, **changes: Any) -> Job:
    """A queued job; windows of 8 tokens make several batches of the tiny corpus."""
    return create_extraction(tiny_request(folder, **{"context": 8, "shards": 3} | changes), owner=None)


def done(job: Job, worker: str = "worker", watch: Any = None) -> Job:
    """The job after a worker has done all that it could."""
    work(job.pk, worker, watch)
    job.refresh_from_db()
    return job


def a_worker(job: Job, name: str) -> Worker:
    """To be led step by step: each ``step`` does one thing that the job needs."""
    return Worker(job.pk, name, None, None)


def stored(job: Job) -> dict[str, int]:
    """Shard states of the job in the storage: name and time of writing."""
    found = (Path(settings.VAR_DIR) / "files" / "jobs" / str(job.pk)).glob("*/shard-*.safetensors")
    return {path.name: path.stat().st_mtime_ns for path in found}


def nothing_is_left(job: Job) -> bool:
    here = files.stored_jobs() + files.scratch_jobs()
    return job.pk not in here and not job.shards.exists()


def nothing_is_written() -> bool:
    return not any(k.objects.exists() for k in (LanguageModel, SAE, Corpus, Run, Feature, Activity, Context, Label))


def rows_of(run: Run | None) -> dict[str, list[dict[str, Any]]]:
    """Everything that a run wrote, save for its keys and times."""
    assert run is not None
    tables = {
        "run": Run.objects.filter(pk=run.pk),
        "activities": Activity.objects.filter(run=run).order_by("index"),
        "contexts": Context.objects.filter(run=run).order_by("number"),
    }
    return {name: [_compared(row) for row in table.values()] for name, table in tables.items()}


def _compared(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: bytes(value) if isinstance(value, memoryview) else value
        for name, value in row.items()
        if name not in NOT_COMPARED
    }
