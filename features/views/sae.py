"""An SAE and its plots."""

import json
from typing import Any

import numpy as np
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import get_conditional_response, patch_cache_control
from django.utils.http import quote_etag
from django.views.decorators.http import require_safe

from features import selectors
from features.columns import columns_of
from features.kept import Kept
from features.listing import FeatureListing
from features.models import Run
from features.plots.density import Figure, density_histogram, density_scatter
from features.plots.thin import MOST
from features.views.chosen import run_query, sae_and_run

PREVIEW, RUNS = 10, 100
"""How many features and runs an SAE's page shows."""
FORMAT = 2
"""Rises when a figure of the same run changes: what browsers have kept is then not theirs any more."""
_kept: Kept[bytes] = Kept(16 << 20)


@require_safe
def sae_page(request: HttpRequest, slug: str) -> HttpResponse:
    sae, run = sae_and_run(request, slug)
    ctx: dict[str, Any] = {"sae": sae, "run": run, "run_query": run_query(request)}
    runs = sae.runs.select_related("corpus").defer("provenance", "settings", "work", "experts")
    ctx |= {"runs": runs.order_by("-created_at", "-pk")[:RUNS], "most_points": MOST}
    if run is not None:
        ctx["rows"] = selectors.rows(run, FeatureListing("-max").of(run).page(PREVIEW).items)
    return render(request, "features/sae.html", ctx)


@require_safe
def plot(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """A figure as JSON. A run at a revision never changes: a browser may keep the figure of one that it named."""
    _, run = sae_and_run(request, slug)
    if run is None or name not in {"density", "scatter"}:
        raise Http404("There is no such plot.")
    tag = quote_etag(f"{name}-{FORMAT}-{run.pk}-{run.revision}-{run.created_at.timestamp()}")
    answer = get_conditional_response(request, tag)
    if answer is None:
        answer = HttpResponse(_json(run, name), content_type="application/json")
    answer["ETag"] = tag
    if request.GET.get("run") and request.GET.get("revision") == str(run.revision):
        patch_cache_control(answer, private=True, max_age=86400, immutable=True)
    else:
        patch_cache_control(answer, private=True, no_cache=True)
    return answer


def _json(run: Run, name: str) -> bytes:
    """The figure; this process keeps the last ones."""
    key = (name, run.pk, run.revision, run.created_at)
    found = _kept.find(key)
    if found is None:
        found = json.dumps(_figure(run, name), separators=(",", ":")).encode()
        _kept.keep(key, found, len(found))
    return found


def _figure(run: Run, name: str) -> Figure:
    columns = columns_of(run)
    index = np.flatnonzero(columns.present)
    density, highest = columns.density[index], columns.max_activation[index]
    return density_histogram(density) if name == "density" else density_scatter(index, density, highest)
