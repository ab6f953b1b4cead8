"""An SAE and its plots."""

import json
from typing import Any

import numpy as np
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_safe

from features import selectors
from features.evidence import find_sae
from features.listing import FeatureListing
from features.models import Activity, Run
from features.plots.density import Figure, density_histogram, density_scatter
from features.views.chosen import run_if_any, run_of, run_query

PREVIEW = 10


@require_safe
def sae_page(request: HttpRequest, slug: str) -> HttpResponse:
    sae = find_sae(slug)
    run = run_if_any(request, sae)
    ctx: dict[str, Any] = {"sae": sae, "run": run, "run_query": run_query(request)}
    ctx["runs"] = sae.runs.latest_first()
    if run is not None:
        strongest = FeatureListing("-max")
        ctx["rows"] = selectors.rows(run, strongest.page(strongest.rows(run), PREVIEW).items)
    return render(request, "features/sae.html", ctx)


@require_safe
def plot(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """A figure as JSON. A run never changes, so a browser may keep the figure of a run that it named."""
    run = run_of(request, find_sae(slug))
    if name not in {"density", "scatter"}:
        raise Http404("There is no such plot.")
    answer = HttpResponse(json.dumps(_figure(run, name), separators=(",", ":")), content_type="application/json")
    patch_cache_control(answer, private=True, max_age=86400 if request.GET.get("run") else 0)
    return answer


def _figure(run: Run, name: str) -> Figure:
    rows = Activity.objects.filter(run=run).order_by("index").values_list("index", "density", "max_activation")
    table = np.array(list(rows), dtype=np.float64).reshape(-1, 3)
    if name == "density":
        return density_histogram(table[:, 1])
    return density_scatter(table[:, 0].astype(np.int64), table[:, 1], table[:, 2])
