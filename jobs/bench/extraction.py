"""The whole extraction beside the least that it can cost: the forward pass to the hook, and that plus ``sae.encode``.

All three read the same tokens in the same process, in turns, so that what else the machine does falls on all of them.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from features.models import SAE as SAERow
from features.models import Run
from jobs.bench import memory
from jobs.bench.subjects import contexts_for, model_for, sae_for
from jobs.engine import hashing, heap
from jobs.engine.capture import SINK_SAMPLE, Capture
from jobs.engine.corpus import Context, CorpusFacts
from jobs.engine.cross_entropy import cross_entropy, sample_size
from jobs.engine.extraction import ExtractionSettings, extract, plan_batches
from jobs.engine.model import LoadedModel
from jobs.engine.provenance import provenance
from jobs.engine.quality import why_not_valid
from jobs.engine.saes import SAE
from jobs.engine.state import State, merge_all
from jobs.ingest import Findings, ingest
from jobs.models import Job
from jobs.progress import Progress
from jobs.work.loaded import BATCH, settle

SHARDS = 4
Batches = Sequence[NDArray[np.int64]]


@dataclass(frozen=True)
class Subject:
    model: LoadedModel
    sae: SAE
    capture: Capture
    contexts: list[Context]
    settings: ExtractionSettings

    def plan(self, contexts: Sequence[Context]) -> Batches:
        return plan_batches(np.array([len(c.token_ids) for c in contexts]), self.settings, self.sae.d_sae)

    def forward(self, batches: Batches) -> None:
        for members in batches:
            self.capture.run([self.contexts[int(i)] for i in members])

    def encode(self, batches: Batches) -> None:
        for members in batches:
            batch = self.capture.run([self.contexts[int(i)] for i in members])
            with torch.inference_mode():
                self.sae.encode(batch.x[batch.mask])


def measure(
    model: str, sae: str, tokens: str | None, corpus: str, limit: int, device: str, dtype: str
) -> dict[str, Any]:
    """Rates in tokens/s, memory in MiB. ``limit``: tokens of the main measurement; a tenth of it goes first."""
    loaded = model_for(model, device, dtype)
    contexts = contexts_for(tokens, corpus, loaded, limit)
    bare = _bare_forward(loaded, contexts, sae)
    loaded_sae = sae_for(sae, loaded)
    settle()
    batch = BATCH[torch.device(device).type]
    settings = ExtractionSettings(context=max(len(c.token_ids) for c in contexts), batch=batch)
    subject = Subject(loaded, loaded_sae, Capture(loaded, *loaded_sae.hook_point()), contexts, settings)
    few = contexts[: max(1, len(contexts) // 10)]
    _whole(subject, few[:32])  # what is loaded and allocated once is there before anything is compared
    _forget()
    memory.reset(device)
    _whole(subject, few)
    small = memory.peak_mb(device)
    _forget()
    memory.reset(device)
    seconds = _whole(subject, contexts, compare=True)
    return _summary(subject, seconds, bare, small, memory.peak_mb(device))


def _bare_forward(model: LoadedModel, contexts: Sequence[Context], sae: str) -> float | None:
    """Peak memory of the forward pass alone, before the SAE is there; the hook point is the SAE's."""
    point = sae_for(sae, model).hook_point()
    capture = Capture(model, *point)
    memory.reset(model.device)
    for _ in capture.batches(contexts[:128], 16):
        pass
    return memory.peak_mb(model.device)


def _whole(subject: Subject, contexts: list[Context], compare: bool = False) -> dict[str, list[float]]:
    """Calibrate, read all shards, merge, work out everything else, and write the run. Seconds by name of the step.

    ``compare``: beside each shard, every second of its batches also runs without the rest.
    """
    took: dict[str, list[float]] = {}
    device = subject.model.device

    def timed(name: str, work: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        found = work()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        took.setdefault(name, []).append(time.perf_counter() - began)
        return found

    batches = subject.plan(contexts)
    timed("calibrate", lambda: subject.capture.calibrate(contexts[:SINK_SAMPLE]))
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, shard in enumerate(_cut(batches, SHARDS)):
            if compare:
                some = shard[::2]
                took.setdefault("compared", []).append(_n_tokens(contexts, some))
                timed("forward", partial(subject.forward, some))
                timed("encode", partial(subject.encode, some))
            path = Path(folder) / str(number)
            timed("read", partial(_read, subject, contexts, shard, path))
            took.setdefault("shard", []).append(_n_tokens(contexts, shard))
            paths.append(path)
        state = timed("merge", lambda: merge_all(State.load(path) for path in paths))
    heap.trim()
    timed("finish", lambda: _finish(subject, contexts, state, sum(took["read"])))
    return took


def _read(subject: Subject, contexts: Sequence[Context], batches: Batches, path: Path) -> None:
    for step in extract(subject.capture, subject.sae, contexts, batches, subject.settings):
        if step.state is not None:
            step.state.save(path)
    del step
    heap.trim()


def _finish(subject: Subject, contexts: list[Context], state: State, seconds: float) -> None:
    model, sae = subject.model, subject.sae
    sample = hashing.sample(len(contexts), sample_size(len(contexts)), subject.settings.seed)
    loss = cross_entropy(subject.capture, sae, [contexts[int(i)] for i in sample])
    quality = state.quality.result()
    hook, layer = sae.hook_point()
    findings = Findings(
        model=model,
        sae=sae,
        sae_source=str(sae.source.path),
        point=subject.capture.point,
        point_out=subject.capture.point_out,
        corpus=CorpusFacts(digest="bench", n_documents=len(contexts), n_bytes=0),
        corpus_source="bench",
        contexts=contexts,  # type: ignore[arg-type]  # read by number, as a TokenisedCorpus is
        state=state,
        quality=quality,
        settings=asdict(subject.settings) | {"tokens": None, "hook": hook, "layer": layer},
        provenance=provenance(model.device),
        seconds=seconds,
        why_not_valid=why_not_valid(quality, sae.k, cross_entropy=loss),
        cross_entropy=loss,
    )
    ingest(findings, *_job())


def _job() -> tuple[Job, Progress]:
    worker = "bench"
    job = Job.objects.create(state=Job.State.RUNNING, phase=Job.Phase.FINISHING, worker=worker, settings={})
    return job, Progress(job.pk, worker)


def _forget() -> None:
    """The next run writes its SAE's features, too."""
    Job.objects.all().delete()
    Run.objects.all().delete()
    SAERow.objects.all().delete()


def _cut(batches: Batches, n: int) -> Iterator[Batches]:
    size = -(-len(batches) // n)
    return (batches[i : i + size] for i in range(0, len(batches), size))


def _n_tokens(contexts: Sequence[Context], batches: Batches) -> int:
    return sum(len(contexts[int(i)].token_ids) for members in batches for i in members)


def _summary(
    subject: Subject, took: dict[str, list[float]], bare: float | None, small: float | None, peak: float | None
) -> dict[str, Any]:
    n = sum(took["shard"])
    reading, rest = sum(took["read"]), {name: took[name][0] for name in ("calibrate", "merge", "finish")}
    forward = median(t / s for t, s in zip(took["compared"], took["forward"], strict=True))
    encode = median(t / s for t, s in zip(took["compared"], took["encode"], strict=True))
    whole = n / (reading + sum(rest.values()))
    known = bare is not None and small is not None and peak is not None
    return {
        "model": subject.model.name,
        "dtype": subject.model.dtype,
        "hook": list(subject.sae.hook_point()),
        "n_features": subject.sae.d_sae,
        "n_tokens": int(n),
        "forward_tokens_per_s": forward,
        "forward_encode_tokens_per_s": encode,
        "reading_tokens_per_s": n / reading,
        "tokens_per_s": whole,
        "ratio_to_forward": whole / forward,
        "ratio_to_forward_encode": whole / encode,
        "seconds": {"read": reading} | rest,
        "peak_forward_mb": bare,
        "peak_mb": peak,
        "peak_extra_mb": peak - bare if known else None,  # type: ignore[operator]
        "peak_growth_at_10x": peak / small if known else None,  # type: ignore[operator]
        "ratios_by_shard": [
            (n / s) / (t / e)
            for n, s, t, e in zip(took["shard"], took["read"], took["compared"], took["encode"], strict=True)
        ],
    }
