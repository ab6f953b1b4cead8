"""Running the text of a trial: what an extraction would keep of one feature, were the text in its corpus."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from features.models import SAE, Run
from features.store.contexts import pack_tokens
from jobs.engine.code import code_version
from jobs.engine.column import column
from jobs.engine.corpus import Context
from jobs.engine.errors import EngineError, SettingsError
from jobs.engine.provenance import device_name, package_versions
from jobs.models import Trial
from jobs.work.trial import Trying
from jobs.work.warm import WARM, Pair

MAX_TOKENS = 512


@dataclass(frozen=True)
class AsTheRun:
    """How the SAE's newest run read its corpus. Without a run nothing is masked but special tokens."""

    run: int | None
    dtype: str = "auto"
    skip_first: int = 0
    sink_threshold: float = math.inf

    @classmethod
    def of(cls, sae: SAE) -> "AsTheRun":
        run = Run.objects.filter(sae=sae, origin=Run.Origin.EXTRACTION).order_by("-created_at", "-pk").first()
        if run is None:
            return cls(None)
        threshold = run.provenance.get("sink_threshold")
        return cls(
            run.pk,
            str(run.provenance.get("dtype", "auto")),
            int(run.settings.get("skip_first", 0)),
            math.inf if threshold is None else float(threshold),
        )


def read_trial(trial: Trial, progress: Trying) -> dict[str, Any]:
    """What the trial's row is to hold: packed tokens and values, and where they come from. Raises EngineError."""
    asked = AsTheRun.of(trial.sae)
    try:
        pair, is_new = WARM.pair(trial.sae, asked.dtype, progress.stage)
        progress.check()
        return _read(trial, pair, asked, pair.seconds if is_new else 0.0)
    except EngineError:
        raise
    except Exception:
        WARM.clear()  # whatever it was, it may have left something broken behind
        raise


@contextmanager
def _half_the_threads() -> Iterator[None]:
    """A text is short, and an extraction may run beside it: threads that wait for a core cost more than they do."""
    n = torch.get_num_threads()
    torch.set_num_threads(max(1, n // 2))
    try:
        yield
    finally:
        torch.set_num_threads(n)


def _read(trial: Trial, pair: Pair, asked: AsTheRun, loading: float) -> dict[str, Any]:
    model, capture = pair.model, pair.capture
    ids = np.asarray(model.tokenize(trial.text), np.int32)
    if not len(ids):
        raise SettingsError("The model's tokenizer makes no token of this text: try another one.")
    window = ids[: min(MAX_TOKENS, model.max_context or MAX_TOKENS)]
    capture.skip_first, capture.sink_threshold = asked.skip_first, asked.sink_threshold
    with _half_the_threads():
        found = column(capture, pair.sae, Context(0, "", "", 0, window), trial.index)
    threshold = asked.sink_threshold
    provenance = code_version() | {
        "model": model.weights_digest,
        "tokenizer": model.tokenizer_digest,
        "chat_template": model.chat_template_digest,
        "sae": pair.sae.digest,
        "dtype": model.dtype,
        "packages": package_versions(),
        "run": asked.run,
        "skip_first": asked.skip_first,
        "sink_threshold": threshold if math.isfinite(threshold) else None,
        "n_tokens": len(ids),
        "sinks": found.sinks,
        "near": found.near,
        "loading": round(loading, 3),
    }
    return {
        "token_ids": pack_tokens(window),
        "result": found.values.astype("<f4").tobytes(),
        "device": device_name(model.device)[:100],
        "provenance": provenance,
    }
