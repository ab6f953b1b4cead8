"""Finishing a job: the shards' states become one, and that becomes a Run."""

import logging
from collections.abc import Iterator
from dataclasses import asdict
from datetime import timedelta

from jobs import files
from jobs.engine import hashing, heap
from jobs.engine.corpus import CorpusFacts
from jobs.engine.cross_entropy import CrossEntropy, cross_entropy, sample_size
from jobs.engine.errors import DamagedState, EngineError, SettingsError
from jobs.engine.quality import why_not_valid
from jobs.engine.state import State, merge_all
from jobs.engine.tokens import TokenisedCorpus
from jobs.ingest import Findings, ingest
from jobs.models import MAX_FAILURES, Job, Shard
from jobs.progress import Progress, Stopped
from jobs.requests import ExtractionRequest
from jobs.sources import corpus_source
from jobs.work.loaded import Loaded, load
from jobs.work.shard import prepare

logger = logging.getLogger(__name__)


class _Broken(Exception):
    """The file of ``shard`` is gone or damaged."""

    def __init__(self, shard: Shard, reason: Exception) -> None:
        super().__init__(str(reason))
        self.shard = shard


def finish(job: Job, loaded: Loaded | None, progress: Progress) -> Loaded:
    """Write the run. Raises EngineError, and Stopped where the job is no longer this worker's."""
    request = ExtractionRequest(**job.settings)
    if loaded is None:
        loaded = load(request, progress)
    contexts = prepare(job, loaded)
    shards = list(job.shards.all())
    if any(shard.state != Shard.State.DONE for shard in shards):  # one was put back between two looks
        Job.objects.reopen(job.pk, progress.worker)
        return loaded
    try:
        state = _merged(job, shards, progress)
    except _Broken as broken:
        _reopen(job, broken, progress)
        return loaded
    heap.trim()
    progress.stage("measuring what the SAE costs the model")
    loss = _cross_entropy(loaded, contexts)
    quality = state.quality.result()
    hook, layer = loaded.capture.hook, loaded.capture.layer
    ingest(
        Findings(
            model=loaded.model,
            sae=loaded.sae,
            sae_source=loaded.sae_source,
            point=loaded.capture.point,
            point_out=loaded.capture.point_out,
            router_layer=loaded.capture.router_layer,
            corpus=CorpusFacts(**job.plan["corpus"]),
            corpus_source=corpus_source(request),
            contexts=contexts,
            state=state,
            quality=quality,
            settings=asdict(loaded.asked) | {"tokens": request.tokens, "hook": hook, "layer": layer},
            provenance=job.plan["made_with"] | {"sink_threshold": job.plan["sink_threshold"]},
            seconds=seconds_of(shards),
            why_not_valid=why_not_valid(quality, loaded.sae.k, reported_l0=loaded.sae.reported_l0, cross_entropy=loss),
            cross_entropy=loss,
            work=[shard.work for shard in shards],
        ),
        job,
        progress,
    )
    return loaded


def seconds_of(shards: list[Shard]) -> float:
    """For how long somebody was reading: the time that the shards cover, in which some may overlap."""
    spans = sorted((s.finished_at - timedelta(seconds=s.seconds), s.finished_at) for s in shards if s.finished_at)
    total, until = timedelta(), None
    for start, end in spans:
        if until is None or end > until:
            total += end - (start if until is None else max(start, until))
            until = end
    return total.total_seconds()


def _merged(job: Job, shards: list[Shard], progress: Progress) -> State:
    """The state over the whole corpus. Raises _Broken and SettingsError."""
    progress.stage(f"merging the results of {len(shards)} shards" if len(shards) > 1 else "reading the result")
    state = merge_all(progress.pulse(_states(job, shards)))
    if state is None or not state.quality.n_tokens:
        raise SettingsError("Nothing is left to measure: every token of the corpus is special or a sink.")
    n_contexts = int(state.counts[1])
    if n_contexts != job.plan["n_contexts"]:
        raise AssertionError(f"The shards hold {n_contexts} contexts, the corpus {job.plan['n_contexts']}.")
    return state


def _states(job: Job, shards: list[Shard]) -> Iterator[State]:
    """One after the other: at no time are all of them on this machine."""
    for shard in shards:
        try:
            with files.reading(shard.file, files.scratch(job.pk)) as path:
                yield State.load(path)
        except (DamagedState, FileNotFoundError) as error:
            raise _Broken(shard, error) from error


def _reopen(job: Job, broken: _Broken, progress: Progress) -> None:
    shard = broken.shard
    logger.warning("job %s: the file of shard %s is gone or damaged: %s", job.pk, shard.number, broken)
    if shard.failures + 1 >= MAX_FAILURES:
        raise EngineError(
            f"The stored file of shard {shard.number} was gone or damaged {MAX_FAILURES} times: "
            "see to the storage (var/files, or the bucket), then send the job again."
        )
    note = "its file was gone or damaged, so it was read again"
    if not Job.objects.reopen(job.pk, progress.worker, shard, note):
        raise Stopped
    Job.objects.note(job.pk, f"Shard {shard.number}: {note}.")
    files.delete([shard.file])


def _cross_entropy(loaded: Loaded, contexts: TokenisedCorpus) -> CrossEntropy | None:
    sample = hashing.sample(len(contexts), sample_size(len(contexts)), loaded.asked.seed)
    return cross_entropy(loaded.capture, loaded.sae, [contexts[int(number)] for number in sample])
