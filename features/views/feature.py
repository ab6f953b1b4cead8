"""One feature, and one context in which it fires."""

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from features import selectors
from features.models import SAE, Activity, Feature, Run
from features.passages import whole
from features.plots.bars import activation_chart
from features.store.contexts import unpack_ids
from features.store.histogram import unpack_histogram
from features.views.browse import run_query
from features.vocabulary import tokens_of


@require_safe
def feature_page(request: HttpRequest, slug: str, index: int) -> HttpResponse:
    feature = _feature(slug, index)
    run = selectors.run_of(feature.sae, request.GET.get("run", ""))
    activity = Activity.objects.filter(run=run, index=index).first() if run else None
    positive, negative = selectors.logit_effects(feature)
    ctx = {
        "sae": feature.sae,
        "feature": feature,
        "run": run,
        "run_query": run_query(request),
        "activity": activity,
        "chart": activation_chart(unpack_histogram(bytes(activity.histogram))) if activity else None,
        "bands": selectors.bands(run, activity) if run and activity else [],
        "positive": positive,
        "negative": negative,
        "neighbours": selectors.neighbours(feature),
        "before": index - 1 if index else None,
        "after": index + 1 if index + 1 < feature.sae.d_sae else None,
    }
    return render(request, "features/feature.html", ctx)


@require_safe
@vary_on_headers("HX-Request")
def context(request: HttpRequest, slug: str, index: int, number: int) -> HttpResponse:
    """Every token of one example; ``?fold=1`` asks for the short form again."""
    feature = _feature(slug, index)
    run, activity = _activity(feature, request.GET.get("run", ""))
    row, example = selectors.example_in(run, activity, number)
    tokens = tokens_of(feature.sae.model_id)
    fold = bool(request.GET.get("fold"))
    shown = selectors.shown(tokens, row, example, activity.max_activation)
    if not fold:
        passage = whole(tokens, unpack_ids(bytes(row.token_ids)), example, activity.max_activation)
        shown = selectors.Shown(row, passage, shown.value)
    ctx = {"sae": feature.sae, "feature": feature, "run": run, "run_query": run_query(request)}
    ctx |= {"activity": activity, "example": shown, "open": not fold}
    fragment = request.headers.get("HX-Request")
    return render(request, "features/_example.html" if fragment else "features/context.html", ctx)


def _feature(slug: str, index: int) -> Feature:
    sae = get_object_or_404(SAE.objects.select_related("model"), slug=slug)
    if index >= sae.d_sae:
        raise Http404(f"{sae} has features 0 to {sae.d_sae - 1}.")
    found = Feature.objects.select_related("sae", "sae__model", "label", "label__author")
    return get_object_or_404(found, sae=sae, index=index)


def _activity(feature: Feature, asked: str) -> tuple[Run, Activity]:
    run = selectors.run_of(feature.sae, asked)
    if run is None:
        raise Http404(f"{feature.sae} has no run.")
    return run, get_object_or_404(Activity, run=run, index=feature.index)
