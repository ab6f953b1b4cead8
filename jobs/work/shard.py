"""Reading a shard: its state goes to the storage, and its row says where."""

import time

from django.utils import timezone

from jobs import files
from jobs.engine import heap
from jobs.engine.extraction import extract, plan_batches
from jobs.engine.provenance import device_name
from jobs.engine.state import State
from jobs.engine.tokens import TokenisedCorpus
from jobs.models import Job, Shard
from jobs.progress import ShardProgress, Stopped, persist
from jobs.requests import ExtractionRequest
from jobs.work.loaded import Loaded, check_same, load


def read_shard(job: Job, shard: Shard, loaded: Loaded | None, progress: ShardProgress) -> Loaded:
    """Raises EngineError, and Stopped where the shard is no longer this worker's: then nothing of it is left."""
    if loaded is None:
        loaded = load(ExtractionRequest(**job.settings), progress)
    contexts = prepare(job, loaded)
    began, started = time.monotonic(), timezone.now()
    Shard.objects.beat(shard.pk, progress.worker, started_at=started, device=device_name(loaded.model.device))
    batches = plan_batches(contexts.lengths, loaded.asked, loaded.sae.d_sae)
    mine = batches[shard.first_batch : shard.first_batch + shard.n_batches]
    state, halved = None, None
    for step in extract(loaded.capture, loaded.sae, contexts, mine, loaded.asked):
        progress.tokens(step.n_tokens)
        state, halved = step.state, step.halved
    if state is None:
        raise AssertionError("a shard ends with its state")
    note = "" if halved is None else f"out of memory: went on with at most {halved} contexts at a time"
    name = _store(job, shard, state)
    del state, step
    heap.trim()
    seconds = time.monotonic() - began
    values = {"file": name, "seconds": seconds, "note": note}
    if not persist(lambda: Shard.objects.finish(shard.pk, progress.worker, **values)):
        files.delete([name])
        raise Stopped
    told = f"{shard.n_tokens:,} tokens in {seconds:,.1f} s, {shard.n_tokens / seconds:,.0f} tokens/s"
    persist(lambda: Job.objects.tell(job.pk, f"shard {shard.number} is done: {told}", progress.worker))
    if note:
        Job.objects.note(job.pk, f"Shard {shard.number}: {note}.")
    Job.objects.add_up(job.pk)
    return loaded


def prepare(job: Job, loaded: Loaded) -> TokenisedCorpus:
    """The job's tokens on this machine, and ``loaded`` set to read them as its plan says. Raises SettingsError."""
    check_same(loaded, job.plan)
    threshold = job.plan["sink_threshold"]
    loaded.capture.sink_threshold = float("inf") if threshold is None else threshold
    folder = files.scratch(job.pk) / job.plan["identity"] / "tokens"
    files.fetch_folder(job.plan["tokens"], job.plan["sizes"], folder)
    return TokenisedCorpus(folder)


def _store(job: Job, shard: Shard, state: State) -> str:
    path = files.scratch(job.pk) / f"{files.unique(f'shard-{shard.number:06d}')}.safetensors"
    state.save(path)
    return files.hand_over(path, f"{files.folder(job.pk, job.plan['identity'])}/{path.name}")
