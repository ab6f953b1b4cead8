"""What workers are at: jobs in every state, workers, an import, an SAE that was refused, and a text that was tried."""

from datetime import timedelta
from typing import Any

import numpy as np
from django.utils import timezone

from features.store.contexts import pack_tokens
from jobs.models import Checkpoint, Import, Job, Shard, Trial, Worker
from jobs.requests import ExtractionRequest, MapRequest
from tests.browser.seed.evidence import LABELLED, PROVENANCE, WORKER, Made
from tests.factories import BOS, encode

LOG = "".join(f"2026-01-01 10:00:{n:02} {WORKER}  shard {n} of 30 is done\n" for n in range(30))
TRACE = "Traceback (most recent call last):\n  File “write.py”, line 3\nOSError: No space left on device\n"


def make(made: Made) -> dict[str, str]:
    """The pages that come with it."""
    running, failed = jobs(made)
    workers(made, running)
    return {
        "running job": running.get_absolute_url(),
        "failed job": failed.get_absolute_url(),
        "import": imports(made).get_absolute_url(),
        "added SAE": added(made).get_absolute_url(),
        "trial": tried(made).get_absolute_url(),
    }


def jobs(made: Made) -> tuple[Job, Job]:
    """One in each state; the one that runs and the one that failed."""
    now = timezone.now()
    asked = ExtractionRequest(made.sae.model.slug, made.sae.slug, made.run.corpus.slug, tokens=4096).as_json()

    def job(state: str, **values: Any) -> Job:
        return Job.objects.create(**{"owner": made.user, "state": state, "settings": asked, "total": 4096} | values)

    begun = {"started_at": now - timedelta(minutes=3), "heartbeat_at": now, "log": LOG}
    ended = begun | {"finished_at": now}
    running = job("running", phase="extracting", stage="extracting", done=1500, rate=420.0, **begun)
    shards(running)
    job("queued", total=0)
    job("done", run=made.run, done=4096, **ended)
    failed = job("failed", error="Shard 0 failed 3 times: the disk is full.", traceback=TRACE, **ended)
    job("cancelled", finished_at=now)
    job("done", kind=Job.Kind.MAP, settings=MapRequest(made.sae.slug).as_json(), total=100, done=100, **ended)
    return running, failed


def shards(job: Job) -> None:
    read = {"done": (1365, 0.0), "running": (135, 420.0), "waiting": (0, 0.0)}
    for number, (state, (done, rate)) in enumerate(read.items()):
        held = {"worker": WORKER, "heartbeat_at": timezone.now()} if state == "running" else {}
        cut = {"first_batch": number, "n_batches": 1, "n_contexts": 10, "n_tokens": 1365}
        Shard.objects.create(job=job, number=number, state=state, done=done, rate=rate, **cut | held)


def workers(made: Made, running: Job) -> None:
    """One that is busy, one that waits with a model in memory, and one that was lost."""
    now = timezone.now()
    machine = {"host": "lab", "pid": 71, "device": "cpu (x86_64)", "memory": 3 << 30, "memory_total": 16 << 30}
    machine |= {"started_at": now - timedelta(days=9), "version": "0123456789ab", "heartbeat_at": now}
    jobs = {"queues": ["extract", "default"], "job": running, "doing": "reads shard 1"}
    Worker.objects.create(name=WORKER, **machine | jobs)
    Worker.objects.create(name="interactive-2@lab", queues=["interactive"], warm=[made.sae.slug], **machine)
    lost = {"queues": ["extract"], "heartbeat_at": now - timedelta(days=8)}
    Worker.objects.create(name="cuda-3@lab2", **machine | lost)


def imports(made: Made) -> Import:
    Import.objects.create(name="no-features.zip", owner=made.user, state="refused", error="No file in it has features.")
    return Import.objects.create(
        name="tiny-lm/8-res",
        owner=made.user,
        state="done",
        layout="neuronpedia",
        run=made.imported,
        files=[{"name": "features-0.jsonl", "bytes": 81_000, "stored": "a"}],
        n_read=41,
        n_new=40,
        n_refused=1,
        faults=[{"file": "features-0.jsonl", "line": 7, "why": "index: 41 is not below the width, 40."}],
        finished_at=timezone.now(),
    )


def added(made: Made) -> Checkpoint:
    why = "cfg.json says d_sae 512, but W_enc is [64, 256]: correct one of them."
    place = {"name": "l3-wide", "origin": "path", "place": "saes/l3-wide"}
    return Checkpoint.objects.create(owner=made.user, state="refused", error=why, **place)


def tried(made: Made) -> Trial:
    text = " the winter of the river and the king in London, cold and quiet"
    ids = [BOS, *encode(text)]
    values = np.where(np.arange(len(ids)) % 4 == 2, 1.5, 0).astype("<f4")
    said = PROVENANCE | {"run": made.run.pk, "sinks": [], "n_tokens": len(ids)}
    return Trial.objects.create(
        sae=made.sae,
        index=LABELLED,
        text=text,
        owner=made.user,
        state="done",
        token_ids=pack_tokens(ids),
        result=values.tobytes(),
        provenance=said,
        seconds=0.2,
        worker="interactive-2@lab",
        device="cpu",
        finished_at=timezone.now(),
    )
