"""Two features, two runs of one SAE, or two SAEs, side by side."""

import json
import re
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_cache_control
from django.views.decorators.http import require_safe

from features import comparing, comparing_runs
from features.columns import columns_of
from features.evidence import NotFound
from features.knowledge.naming import Name, names_in
from features.knowledge.rules import Refused
from features.models import SAE, Run
from features.plots.pairs import density_pairs

OFFERED = 100
"""Runs, or SAEs, to choose from."""


@require_safe
def compare(request: HttpRequest) -> HttpResponse:
    """``?a=`` and ``?b=``, each sae/index; without both, the form alone."""
    typed = {name: request.GET.get(name, "").strip() for name in ("a", "b")}
    ctx: dict[str, Any] = {"typed": typed, "faults": {}}
    names = {name: _named(text, typed["a"], ctx["faults"], name) for name, text in typed.items() if text}
    status = 422 if ctx["faults"] else 200
    first, second = names.get("a"), names.get("b")
    if first and second:
        try:
            a, b = comparing.sides(*comparing.find_pair(first, second))
            ctx |= {"sides": [a, b], "likeness": comparing.likeness(a, b)}
        except NotFound as error:
            ctx["fault"], status = str(error), 404
    return render(request, "features/compare.html", ctx, status=status)


def _named(text: str, other: str, faults: dict[str, str], field: str) -> Name | None:
    """A bare index is of the other one's SAE."""
    try:
        return names_in(text, sae=other.rpartition("/")[0])[0]
    except Refused as error:
        faults[field] = str(error)
        return None


@require_safe
def compare_runs(request: HttpRequest) -> HttpResponse:
    """``?a=`` and ``?b=``, numbers of runs; with one of them, the other runs of its SAE to choose from."""
    a, b = (_run(request, name) for name in ("a", "b"))
    ctx: dict[str, Any] = {"a": a, "b": b, "runs": _offered(a or b)}
    if a is None or b is None:
        return render(request, "features/compare_runs.html", ctx)
    if a.sae_id != b.sae_id:
        return render(request, "features/compare_runs.html", ctx | {"two_saes": True}, status=422)
    by_density, by_maximum = comparing_runs.changed(a, b)
    ctx |= {
        "sae": a.sae,
        "figures": comparing_runs.figures(a, b),
        "differences": comparing_runs.differences(a, b),
        "changes": [("density", by_density), ("maximum", by_maximum)],
        "together": True,
    }
    return render(request, "features/compare_runs.html", ctx)


@require_safe
def compare_plot(request: HttpRequest) -> HttpResponse:
    """The densities of two runs of one SAE as a figure. Runs do not change, save those that are imported again."""
    a, b = (_run(request, name) for name in ("a", "b"))
    if a is None or b is None or a.sae_id != b.sae_id:
        raise NotFound("Name two runs of one SAE.")
    figure = density_pairs(columns_of(a).density, columns_of(b).density)
    answer = HttpResponse(json.dumps(figure, separators=(",", ":")), content_type="application/json")
    patch_cache_control(answer, private=True, max_age=3600)
    return answer


@require_safe
def compare_saes(request: HttpRequest) -> HttpResponse:
    """``?a=`` and ``?b=``, slugs; with the newest run of each."""
    slugs = [request.GET.get(name, "") for name in ("a", "b")]
    every = list(SAE.objects.for_listing()[:OFFERED])
    known = {sae.slug: sae for sae in every}
    if missing := [slug for slug in slugs if slug and slug not in known and "\0" not in slug]:
        known |= {sae.slug: sae for sae in SAE.objects.for_listing().filter(slug__in=missing)}
    for slug in slugs:
        if slug and slug not in known:
            raise NotFound("There is no SAE of this name here.")
    ctx: dict[str, Any] = {"a": known.get(slugs[0]), "b": known.get(slugs[1]), "saes": every}
    if ctx["a"] and ctx["b"]:
        runs = comparing.newest_runs({ctx["a"].pk, ctx["b"].pk})
        first, second = runs.get(ctx["a"].pk), runs.get(ctx["b"].pk)
        ctx |= {
            "run_a": first,
            "run_b": second,
            "card": comparing_runs.card_rows(ctx["a"], ctx["b"]),
            "figures": comparing_runs.figures(first, second),
            "same_corpus": bool(first and second and first.corpus_id == second.corpus_id),
            "together": True,
        }
    return render(request, "features/compare_saes.html", ctx)


def _run(request: HttpRequest, name: str) -> Run | None:
    text = request.GET.get(name, "")
    if not text:
        return None
    if not re.fullmatch("[0-9]{1,18}", text):
        raise NotFound("A run is named by its number.")
    run = Run.objects.latest_first().filter(pk=int(text)).first()
    if run is None:
        raise NotFound(f"There is no run {text} here.")
    return run


def _offered(run: Run | None) -> list[Run]:
    """Runs to choose from: of the SAE of the one that is chosen, if one is."""
    runs = Run.objects.latest_first()
    return list((runs.filter(sae=run.sae_id) if run else runs)[:OFFERED])
