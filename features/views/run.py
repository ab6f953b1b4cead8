"""A run, and the work behind it."""

import json
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from features.models import Run

DIGESTS = ("digest", "weights_digest", "tokenizer_digest")


@dataclass(frozen=True)
class Count:
    """Some of the tokens that a run read, or of its SAE's features."""

    name: str
    n: int
    of: int
    meaning: str

    @property
    def share(self) -> float | None:
        return self.n / self.of if self.of else None


@require_safe
def run_page(request: HttpRequest, pk: int) -> HttpResponse:
    run = get_object_or_404(Run.objects.select_related("sae", "sae__model", "corpus", "owner"), pk=pk)
    shards = [_shard(part) for part in run.work]
    ctx = {
        "run": run,
        "sae": run.sae,
        "run_query": f"?run={pk}",
        # The jobs room adds this relation; this room knows no more of it than its name.
        "jobs": run.jobs.all(),
        "tokens": _tokens(run),
        "features": _features(run),
        "shards": shards,
        "workers": {shard["worker"] for shard in shards if shard["worker"]},
        "again": sum(shard["attempts"] > 1 for shard in shards),
        "record": json.dumps(_record(run), indent=2),
    }
    return render(request, "features/run.html", ctx)


def _tokens(run: Run) -> list[Count]:
    skipped = run.settings.get("skip_first")
    sinks = "activations of a norm far above the rest"
    if skipped:
        sinks += f", and the first {'position' if skipped == 1 else f'{skipped} positions'} of each context"
    return [
        Count("counted", run.n_tokens, run.n_read, "every figure rests on these"),
        Count("special", run.n_special, run.n_read, "left out: tokens that the tokenizer adds or marks as special"),
        Count("sinks and skipped" if skipped else "sinks", run.n_sinks, run.n_read, f"left out: {sinks}"),
    ]


def _features(run: Run) -> list[Count]:
    d_sae = run.sae.d_sae
    return [
        Count("alive", run.n_alive, d_sae, "fired at least once in this corpus"),
        Count("dense", run.n_dense, d_sae, "fired on more than 1 % of tokens"),
        Count("very dense", run.n_very_dense, d_sae, "fired on more than 10 % of tokens"),
    ]


def _shard(part: dict[str, Any]) -> dict[str, Any]:
    """One row of the table of shards; what its worker did not write stays empty."""
    shard = dict.fromkeys(("number", "worker", "device", "note"), "") | {"tokens": 0, "seconds": 0.0, "attempts": 1}
    shard |= {name: value for name, value in part.items() if value is not None}
    return shard | {"rate": shard["tokens"] / shard["seconds"] if shard["seconds"] else None}


def _record(run: Run) -> dict[str, Any]:
    """All that the run was made from, to be copied. ASCII alone is written, so nothing in it can mislead the eye."""
    sae, model, corpus = run.sae, run.sae.model, run.corpus
    return {
        "run": run.pk,
        "made": run.created_at.isoformat(),
        "model": {"name": model.name, "source": model.source, "revision": model.revision} | _digests(model),
        "sae": {"name": sae.name, "source": sae.source, "hook": sae.hook, "layer": sae.layer} | _digests(sae),
        "corpus": {"name": corpus.name, "source": corpus.source} | _digests(corpus),
        "seed": run.seed,
        "settings": run.settings,
        "provenance": run.provenance,
    }


def _digests(row: Any) -> dict[str, str]:
    return {name: getattr(row, name) for name in DIGESTS if hasattr(row, name)}
