"""One feature, and one of the contexts that show it."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from features import evidence, selectors
from features.knowledge.people import people_of
from features.plots.bars import activation_chart
from features.store.histogram import unpack_histogram
from features.views.chosen import run_query, sae_and_run
from features.vocabulary import tokens_of

ELSEWHERE = 8
"""Features of other SAEs with the same label: how many are shown."""


@require_safe
def feature_page(request: HttpRequest, slug: str, index: int) -> HttpResponse:
    """What its weights say, and if the SAE has a run, what it did there."""
    sae, run = sae_and_run(request, slug)
    activity = evidence.find_activity(run, index) if run else None
    feature = activity.feature if activity else evidence.find_feature(sae, index)
    tokens = tokens_of(sae.model)
    positive, negative = selectors.meters(evidence.logit_effects(feature), tokens)
    ctx: dict[str, Any] = {
        "sae": sae,
        "feature": feature,
        "address": reverse("feature", args=[slug, index]),
        "base": reverse("features", args=[slug]),
        "run": run,
        "run_query": run_query(request),
        "activity": activity,
        "positive": positive,
        "negative": negative,
        "people": people_of(feature, request.user),
        "relatives": evidence.relatives_of(feature, activity, elsewhere=ELSEWHERE),
        "before": index - 1 if index else None,
        "after": index + 1 if index + 1 < sae.d_sae else None,
    }
    if run and activity:
        ctx["experts"] = evidence.experts_of(activity)
        ctx["chart"] = activation_chart(unpack_histogram(bytes(activity.histogram)))
        shown = evidence.examples_of(run, activity)
        ctx["bands"] = selectors.bands(shown.firing, tokens, activity.max_activation)
        ctx["near_misses"] = [selectors.readable(near, tokens, 0) for near in shown.near_misses]
        ctx["silent"] = [selectors.readable(silent, tokens, 0) for silent in shown.silent]
    return render(request, "features/feature.html", ctx)


@require_safe
@vary_on_headers("HX-Request")
def context(request: HttpRequest, slug: str, index: int, number: int) -> HttpResponse:
    """Every token of one of its contexts; ``?fold=1`` asks for the short form again."""
    sae, run = sae_and_run(request, slug)
    if run is None:
        raise evidence.NotFound("This SAE has no run yet.")
    activity = evidence.find_activity(run, index)
    shown = evidence.find_example(run, activity, number)
    unfolded = not request.GET.get("fold")
    example = selectors.readable(shown, tokens_of(sae.model), activity.max_activation, in_full=unfolded)
    ctx = {"sae": sae, "feature": activity.feature, "run": run, "run_query": run_query(request)}
    ctx |= {
        "address": reverse("feature", args=[slug, index]),
        "activity": activity,
        "example": example,
        "open": unfolded,
    }
    fragment = request.headers.get("HX-Request")
    return render(request, "features/_example.html" if fragment else "features/context.html", ctx)
