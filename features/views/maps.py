"""What the map of an SAE asks for while it is looked at: its points, labels, matches, and what was chosen."""

import re
from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_http_methods, require_safe
from django.views.decorators.vary import vary_on_headers

from features import layouts
from features.evidence import NotFound, find_feature, find_sae
from features.markup import label_html
from features.models import SAE, Layout
from features.search.query import QueryError
from features.search.text import indexes_matching
from features.shown_labels import labels_of
from features.views.chosen import run_if_any, run_of, run_query

YEAR = 31_536_000
MAX_TITLE = 200


@require_safe
def map_data(request: HttpRequest, slug: str) -> HttpResponse:
    """Points, clusters and densities (features.layouts). Named by layout, run and revision they never change."""
    sae = find_sae(slug)
    run = run_if_any(request, sae)
    layout = layouts.find_layout(sae, _number(request, "layout"))
    answer = HttpResponse(layouts.map_bytes(layout, run), content_type="application/octet-stream")
    named = all(name in request.GET for name in ("layout", "run"))
    if named and request.GET.get("revision", "") == str(run.revision if run else 0):
        patch_cache_control(answer, private=True, max_age=YEAR, immutable=True)
    else:
        patch_cache_control(answer, private=True, no_cache=True)
    return answer


@require_safe
def map_kinds(request: HttpRequest, slug: str) -> HttpResponse:
    """Who wrote each feature's label, uint8 [d_sae] (features.shown_labels): it changes with every label."""
    answer = HttpResponse(labels_of(find_sae(slug)).kinds.tobytes(), content_type="application/octet-stream")
    patch_cache_control(answer, private=True, no_cache=True)
    return answer


@require_safe
def map_label(request: HttpRequest, slug: str) -> HttpResponse:
    """The label of the feature under the pointer, as the tables write it."""
    feature = find_feature(find_sae(slug), _number(request, "index") or 0)
    answer = HttpResponse(label_html(feature.label))
    patch_cache_control(answer, private=True, max_age=60)
    return answer


@require_safe
def map_matches(request: HttpRequest, slug: str) -> JsonResponse:
    """The features that match ``q``, ascending, as the table of features finds them."""
    sae = find_sae(slug)
    try:
        found = indexes_matching(run_of(request, sae), request.GET.get("q", ""))
    except QueryError as error:
        return JsonResponse({"fault": str(error)}, status=422)
    return JsonResponse({"indexes": found.indexes.tolist(), "capped": found.capped})


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Request")
def map_chosen(request: HttpRequest, slug: str) -> HttpResponse:
    """The features of ``?cluster=``, or those that the map posts as ``features``: a list beside the map, or a page."""
    sae = find_sae(slug)
    run = run_if_any(request, sae)
    indexes, total, title, why = _asked(request, sae)
    found = layouts.chosen(sae, run, indexes)
    ctx: dict[str, Any] = {
        "sae": sae,
        "run": run,
        "run_query": run_query(request),
        "found": found,
        "total": max(total, len(found.indexes)),
        "title": title[:MAX_TITLE],
        "why": why,
        "q": request.POST.get("q", "")[:MAX_TITLE],
        "most": layouts.MOST,
        "here": reverse("map", args=[sae.slug]) + run_query(request),
    }
    alone = request.headers.get("HX-Request") and not request.headers.get("HX-History-Restore-Request")
    return render(request, "features/_chosen.html" if alone else "features/chosen.html", ctx)


def _asked(request: HttpRequest, sae: SAE) -> tuple[list[int], int, str, str]:
    """Indexes, how many were meant, what they are, and why they belong together."""
    if request.method == "POST":
        words = request.POST.get("features", "").split(",")[: layouts.MOST]
        indexes = [int(word) for word in words if re.fullmatch("[0-9]{1,9}", word)]
        total = request.POST.get("total", "")
        meant = int(total) if re.fullmatch("[0-9]{1,9}", total) else len(indexes)
        return indexes, min(meant, sae.d_sae), request.POST.get("title", "") or "Chosen on the map", ""
    number = _number(request, "cluster")
    if number is None:
        raise NotFound("Name a cluster of the map.")
    layout = layouts.find_layout(sae, _number(request, "layout"))
    members = layouts.indexes_of_cluster(layout, number).tolist()
    cluster = _cluster(layout, number)
    return members[: layouts.MOST], len(members), f"Cluster {number}: {cluster['name']}", cluster["why"]


def _cluster(layout: Layout, number: int) -> dict[str, Any]:
    unnamed = {"name": "unnamed", "why": ""}
    return next((cluster for cluster in layout.clusters if cluster["number"] == number), unnamed)


def _number(request: HttpRequest, name: str) -> int | None:
    text = request.GET.get(name, "")
    if text and not re.fullmatch("[0-9]{1,9}", text):
        raise NotFound(f"{name} is a number.")
    return int(text) if text else None
