"""Planning a job: what every worker of it has to agree on, fixed once and written to its row.

A plan is JSON: ``identity``, a name for everything that shard states depend on; ``made_with``, the provenance;
``settings``, the engine's; ``corpus``, its facts; ``device``, cpu or cuda; ``sink_threshold``, None for infinity;
``n_contexts``; and ``tokens``, the stored files of the TokenisedCorpus with their ``sizes``.
"""

import hashlib
import json
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jobs import files
from jobs.engine.capture import SINK_SAMPLE
from jobs.engine.corpus import corpus_facts
from jobs.engine.extraction import plan_batches
from jobs.engine.provenance import provenance
from jobs.engine.tokens import TokenisedCorpus
from jobs.models import Job, Shard
from jobs.progress import Progress, Stopped
from jobs.requests import ExtractionRequest
from jobs.sources import corpus_source
from jobs.work.loaded import Loaded, device_for, load

SHARD_TOKENS = 65_536  # at least so many, where nobody asks for a number of shards
MAX_FILES = 64  # each state is as large as the SAE asks for, and the end reads them all


def plan(job: Job, progress: Progress) -> Loaded:
    """Cut the job into shards. Raises EngineError, and Stopped where the job is no longer this worker's."""
    request = ExtractionRequest(**job.settings)
    made_with = provenance(device_for(request.device))  # now: the code on the disk may change while this process runs
    progress.stage("reading the corpus", device=made_with["device"])
    corpus = corpus_source(request)
    facts = corpus_facts(corpus)
    loaded = load(request, progress)
    made_with |= loaded.digests | {"corpus": facts.digest}
    identity = _identity(made_with, loaded, request)
    contexts = _tokenise(files.scratch(job.pk) / identity / "tokens", corpus, loaded, request, progress)
    progress.stage("setting the sink threshold")
    threshold = loaded.capture.calibrate(contexts[:SINK_SAMPLE])
    batches = plan_batches(contexts.lengths, loaded.asked, loaded.sae.d_sae)
    progress.stage("storing the tokens")
    token_folder = files.unique("tokens")
    names, sizes = {}, {}
    for path in progress.pulse(sorted(contexts.folder.iterdir())):
        names[path.name] = files.store(path, f"{files.folder(job.pk, identity)}/{token_folder}/{path.name}")
        sizes[path.name] = path.stat().st_size
    found = {
        "identity": identity,
        "made_with": made_with,
        "settings": asdict(loaded.asked),
        "corpus": asdict(facts),
        "device": loaded.device_type,
        "sink_threshold": threshold if math.isfinite(threshold) else None,
        "n_contexts": len(contexts),
        "tokens": names,
        "sizes": sizes,
    }
    if job.plan.get("identity") == identity:  # other workers may have taken their threshold from it already
        found |= {"made_with": job.plan["made_with"], "sink_threshold": job.plan["sink_threshold"]}
    if not Job.objects.planned(job.pk, progress.worker, found, list(_shards(job, contexts, batches, request))):
        raise Stopped
    _clear(job, identity)
    return loaded


def cut(tokens: NDArray[np.int64], wanted: int | None) -> list[int]:
    """Batches of each shard, for batches of ``tokens`` tokens: ``wanted`` shards if that many can be."""
    if wanted is not None:
        return [len(part) for part in np.array_split(tokens, min(wanted, len(tokens)))]
    least = max(SHARD_TOKENS, -(-int(tokens.sum()) // MAX_FILES))
    sizes, held = [0], 0
    for number, n in enumerate(tokens.tolist()):
        sizes[-1] += 1
        held += n
        if held >= least and number + 1 < len(tokens):
            sizes, held = [*sizes, 0], 0
    if held < least and len(sizes) > 1:  # the rest is short: it joins the shard before it
        rest = sizes.pop()
        sizes[-1] += rest
    return sizes


def _shards(
    job: Job, contexts: TokenisedCorpus, batches: list[NDArray[np.int64]], request: ExtractionRequest
) -> Iterator[Shard]:
    lengths = contexts.lengths
    tokens = np.array([lengths[members].sum() for members in batches])
    first = 0
    for number, size in enumerate(cut(tokens, request.shards)):
        inside = slice(first, first + size)
        yield Shard(
            job=job,
            number=number,
            first_batch=first,
            n_batches=size,
            n_contexts=sum(map(len, batches[inside])),
            n_tokens=int(tokens[inside].sum()),
        )
        first += size


def _tokenise(
    folder: Path, corpus: str, loaded: Loaded, request: ExtractionRequest, progress: Progress
) -> TokenisedCorpus:
    """The corpus as tokens on this machine's disk. Each process writes aside, so none disturbs another."""
    progress.stage("cutting the corpus into tokens")
    if not folder.is_dir():
        aside = folder.with_name(files.unique(".building"))
        try:
            for _ in progress.pulse(
                TokenisedCorpus.build(aside, corpus, loaded.model.tokenize, request.context, request.tokens)
            ):
                pass
            files.put_in_place(aside, folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            shutil.rmtree(aside.with_name(f".{aside.name}.partial"), ignore_errors=True)
    return TokenisedCorpus(folder)


def _identity(made_with: dict[str, Any], loaded: Loaded, request: ExtractionRequest) -> str:
    """A name for everything that shard states depend on: files, code or a kind of device that changed change it."""
    names = ("model", "sae", "corpus", "dtype", "hook", "commit", "dirty", "packages")
    parts = [{name: made_with[name] for name in names}, loaded.device_type, asdict(loaded.asked), request.tokens]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _clear(job: Job, identity: str) -> None:
    """Delete what an earlier plan left: files of another identity, and its tokens. Shards that are done stay."""
    files.delete(list(job.plan.get("tokens", {}).values()))
    for other in set(files.folders_of(job.pk)) - {identity}:
        files.delete_folder(files.folder(job.pk, other))
