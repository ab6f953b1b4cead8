"""The map of an SAE: the page, what it shows while a worker draws, and asking for one. Everybody signed in may."""

from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from features.evidence import find_sae
from features.layouts import newest_layout
from features.models import SAE, Layout
from features.shown_labels import NAMES
from features.views.chosen import run_if_any, run_query
from jobs.maps import NoMap, newest_job, queue_map
from jobs.models import Job
from jobs.requests import MapRequest

NOT_TOLD = (
    "The map is queued, but the queue (Redis) cannot be reached, so no worker has been told of it. "
    "Start Redis, or correct REDIS_URL: a worker finds the map by itself."
)
NUMBERS = {"n_neighbors": int, "min_dist": float, "seed": int}


@require_safe
def map_page(request: HttpRequest, slug: str) -> HttpResponse:
    sae = find_sae(slug)
    return render(request, "features/map.html", _context(request, sae, {}))


@require_safe
def map_state(request: HttpRequest, slug: str) -> HttpResponse:
    """How the drawing goes; once it has ended, htmx is told to load the page anew."""
    sae = find_sae(slug)
    job = newest_job(sae)
    answer = render(request, "features/_map_job.html", {"sae": sae, "job": job})
    if job is None or not job.is_live:
        answer["HX-Refresh"] = "true"
    return answer


@require_POST
def map_make(request: HttpRequest, slug: str) -> HttpResponse:
    """Queue a map, with the numbers that were given. What cannot be is said beside what was typed."""
    sae = find_sae(slug)
    typed = {name: request.POST.get(name, "").strip() for name in NUMBERS}
    try:
        asked = MapRequest(sae=sae.slug, **_numbers(typed))
        queue_map(asked, request.user)
    except (ValueError, NoMap) as error:
        ctx = _context(request, sae, typed) | {"fault": str(error)}
        return render(request, "features/map.html", ctx, status=409 if isinstance(error, NoMap) else 422)
    except (OperationalError, RedisError):
        messages.error(request, NOT_TOLD)
    return redirect(reverse("map", args=[sae.slug]))


def _members(request: HttpRequest, layout: Layout | None) -> str:
    """What the address of a cluster says beside its number."""
    named = {"layout": layout.pk if layout else "", "run": request.GET.get("run", "")}
    return "".join(f"{urlencode({name: value})}&" for name, value in named.items() if value)


def _numbers(typed: dict[str, str]) -> dict[str, Any]:
    """Those that were given. ValueError with a sentence for what is no number."""
    found = {}
    for name, kind in NUMBERS.items():
        if typed[name]:
            try:
                found[name] = kind(typed[name])
            except ValueError:
                wanted = "a whole number" if kind is int else "a number"
                raise ValueError(f"{name.replace('_', ' ').capitalize()}: give {wanted}.") from None
    return found


def _context(request: HttpRequest, sae: SAE, typed: dict[str, str]) -> dict[str, Any]:
    """Four queries: the run, the layout without its points, the newest job."""
    layout, job = newest_layout(sae), newest_job(sae)
    made = MapRequest(sae=sae.slug).as_json() | (layout.settings if layout else {})
    newer = job and (layout is None or job.created_at > layout.created_at or job.is_live)
    return {
        "sae": sae,
        "run": run_if_any(request, sae),
        "run_query": run_query(request),
        "layout": layout,
        "clusters": layout.clusters if layout else [],
        "members": f"{reverse('map_chosen', args=[sae.slug])}?{_members(request, layout)}cluster=",
        "job": job if newer and job and job.state != Job.State.DONE else None,
        "kinds": list(NAMES),
        "typed": {name: typed.get(name) or made[name] for name in NUMBERS},
        "can_be_drawn": bool(sae.digest),
    }
