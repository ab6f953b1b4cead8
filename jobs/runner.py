"""Run one extraction job from its row to its Run: the engine computes, this file drives, ingest.py writes."""

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from django.conf import settings
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from features.models import Run
from jobs.engine.capture import SINK_SAMPLE, Capture
from jobs.engine.corpus import CorpusFacts, corpus_facts
from jobs.engine.errors import EngineError, SettingsError
from jobs.engine.extraction import ExtractionSettings, check_fit, extract
from jobs.engine.model import LoadedModel, load_model
from jobs.engine.provenance import provenance
from jobs.engine.quality import why_not_valid
from jobs.engine.saes import SAE, load_sae
from jobs.engine.state import State
from jobs.engine.tokens import TokenisedCorpus
from jobs.ingest import Findings, ingest
from jobs.models import Job
from jobs.progress import Progress, Stopped, Watch
from jobs.requests import ExtractionRequest
from jobs.sources import corpus_source, model_source, sae_source

logger = logging.getLogger(__name__)


def run(job_id: int, worker: str, watch: Watch | None = None) -> None:
    """Run a job that ``worker`` has claimed. Its outcome, good or bad, is on the row when this returns."""
    progress = Progress(job_id, worker, watch)
    try:
        with progress.beating():
            _extract(Job.objects.get(pk=job_id), progress)
    except Stopped:
        logger.info("job %s was cancelled or taken over", job_id)
    except EngineError as error:
        Job.objects.fail(job_id, worker, str(error))
    except KeyboardInterrupt:
        Job.objects.fail(job_id, worker, "Interrupted from the keyboard; start it again to go on where it stopped.")
        raise
    except Exception as error:
        logger.exception("job %s failed", job_id)
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        Job.objects.fail(job_id, worker, f"The worker met an error it does not know: {reason}")
    else:
        shutil.rmtree(_scratch(job_id), ignore_errors=True)


def _extract(job: Job, progress: Progress) -> Run:
    request = ExtractionRequest(**job.settings)
    asked = ExtractionSettings(
        context=request.context, top=request.top, seed=request.seed, skip_first=request.skip_first
    )
    device = _device(request.device)
    made_with = provenance(device)  # now: the code on the disk may change while this process runs
    torch.manual_seed(request.seed)

    progress.stage("reading the corpus", device=made_with["device"])
    corpus = corpus_source(request)
    facts = corpus_facts(corpus)
    progress.stage("loading the SAE")
    path, overrides = sae_source(request)
    sae = load_sae(path, device=device, **overrides)  # type: ignore[arg-type]
    hook, layer = sae.hook_point()
    progress.stage("loading the model")
    source, revision = model_source(request)
    model = load_model(source, revision=revision, device=device)
    capture = Capture(model, hook, layer, asked.skip_first)
    check_fit(sae, capture, asked.context)

    made_with |= _digests(model, sae, facts, capture, path)
    scratch = _scratch(job.pk) / _identity(made_with, asdict(asked), request)
    contexts = _tokenise(scratch / "tokens", corpus, model, request, progress)
    # At most 64 shards: each is a file as large as the state, and merging reads them all.
    asked = replace(asked, shard=max(asked.shard, -(-len(contexts) // 64)))
    threshold = capture.calibrate(contexts[:SINK_SAMPLE])
    started = time.monotonic()
    progress.stage("extracting", contexts.n_tokens)
    state = _read(capture, sae, contexts, asked, scratch, progress)
    seconds = time.monotonic() - started

    quality = state.quality.result()
    findings = Findings(
        model=model,
        sae=sae,
        sae_source=path,
        corpus=facts,
        corpus_source=corpus,
        contexts=contexts,
        state=state,
        quality=quality,
        settings=asdict(asked) | {"tokens": request.tokens, "hook": hook, "layer": layer},
        provenance=made_with | {"sink_threshold": threshold if math.isfinite(threshold) else None},
        seconds=seconds,
        why_not_valid=why_not_valid(quality, sae.k),
    )
    return ingest(findings, job, progress)


def _tokenise(
    folder: Path, corpus: str, model: LoadedModel, request: ExtractionRequest, progress: Progress
) -> TokenisedCorpus:
    progress.stage("cutting the corpus into tokens")
    steps: Iterator[int | TokenisedCorpus] = TokenisedCorpus.build(
        folder, corpus, model.tokenize, request.context, request.tokens
    )
    for step in progress.pulse(steps):
        if isinstance(step, TokenisedCorpus):
            return step
    raise AssertionError("a build ends with the corpus")


def _read(
    capture: Capture,
    sae: SAE,
    contexts: TokenisedCorpus,
    asked: ExtractionSettings,
    folder: Path,
    progress: Progress,
) -> State:
    """The state over all contexts. Shards are saved as they come; those of an earlier attempt are not made again."""
    done = {int(path.stem.removeprefix("shard-")) for path in folder.glob("shard-*.safetensors")}
    n_shards = -(-len(contexts) // asked.shard)
    for step in extract(capture, sae, contexts, asked, done):
        if step.state is not None:
            _save(folder / f"shard-{step.shard:06d}.safetensors", step.state)
        progress.tokens(step.n_tokens)
    merged: State | None = None
    for number in range(n_shards):
        state = _load(folder / f"shard-{number:06d}.safetensors")
        if merged is None:
            merged = state
        else:
            merged.merge(state)
    if merged is None or not merged.quality.n_tokens:
        raise SettingsError("Nothing is left to measure: every token of the corpus is special or a sink.")
    if not np.isfinite(merged.quality.scalars).all():
        raise SettingsError("The model or the SAE gave NaN or infinite activations; try another device or checkpoint.")
    return merged


def _load(path: Path) -> State:
    try:
        return State.from_arrays(load_file(path))
    except (SafetensorError, KeyError, ValueError) as error:
        path.unlink()
        raise SettingsError(f"{path} was damaged and has been removed; start the job again to make it anew.") from error


def _save(path: Path, state: State) -> None:
    scratch = path.with_suffix(".partial")
    save_file(state.arrays(), scratch)
    scratch.rename(path)


def _identity(made_with: dict[str, Any], asked: dict[str, Any], request: ExtractionRequest) -> str:
    """A name for everything that shard states depend on: files, code or a device that changed change it."""
    parts = [made_with, asked, request.tokens]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _digests(model: LoadedModel, sae: SAE, corpus: CorpusFacts, capture: Capture, sae_path: str) -> dict[str, Any]:
    return {
        "model": {
            "source": model.source,
            "revision": model.revision,
            "weights": model.weights_digest,
            "tokenizer": model.tokenizer_digest,
        },
        "sae": {"source": sae_path, "digest": sae.digest, "format": sae.format, "dtype": sae.dtype_on_disk},
        "corpus": corpus.digest,
        "dtype": model.dtype,
        "hook": [capture.hook, capture.layer, sae.k],
    }


def _device(wanted: str) -> str:
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not wanted.startswith(("cpu", "cuda")):
        raise SettingsError(f"The device {wanted} is not supported: choose auto, cpu or cuda.")
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise SettingsError(f"The device {wanted} was asked for, but this worker has no CUDA GPU: choose auto or cpu.")
    try:
        return str(torch.device(wanted))
    except RuntimeError as error:
        raise SettingsError(f"There is no device {wanted}: choose auto, cpu or cuda.") from error


def _scratch(job_id: int) -> Path:
    return Path(settings.VAR_DIR) / "jobs" / str(job_id)
