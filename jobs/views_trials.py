"""“Try it”: a text of one's own through one feature. A trial is shown to its owner and to administrators alone."""

from datetime import timedelta
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django.views.decorators.vary import vary_on_headers

from features.evidence import find_feature, find_sae
from features.models import SAE
from jobs import answers, trials
from jobs.models import Trial
from jobs.queues import INTERACTIVE
from jobs.workers import why_waiting

# How soon a page asks again, by how long it has waited.
POLLS = ((timedelta(seconds=3), 150), (timedelta(seconds=20), 700))
SLOW_POLL = 3000  # milliseconds


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_headers("HX-Request")
def try_feature(request: HttpRequest, slug: str, index: int) -> HttpResponse:
    """Run a text. Looked at, the form alone, or for htmx what this person tried before."""
    sae = find_sae(slug)
    feature = find_feature(sae, index)
    ctx: dict[str, Any] = {"sae": sae, "feature": feature}
    if request.method != "POST":
        ctx |= _earlier(request, sae, index)
        return render(request, "jobs/_earlier.html" if _is_htmx(request) else "jobs/try.html", ctx)
    text, status = request.POST.get("text", ""), 200
    ctx["text"] = text.replace("\0", "")
    try:
        trial = trials.ask(sae, index, text, request.user)
    except trials.Refused as refused:
        ctx |= {"refusal": str(refused)}
        return render(request, _template(request, "try"), ctx, status=refused.status)
    except trials.NoQueue as down:
        trial, status = down.trial, 503
        ctx |= {"refusal": str(down), "poll": SLOW_POLL}
    if status == 200 and not _is_htmx(request):
        return redirect(trial)
    return render(request, _template(request, "trial"), _shown(trial) | ctx, status=status)


@require_safe
@vary_on_headers("HX-Request")
def trial_page(request: HttpRequest, pk: int) -> HttpResponse:
    trial = _mine(request, pk)
    ctx = _shown(trial) | {"text": trial.text}
    ctx["said"] = _is_htmx(request) and not trial.is_live  # it has just ended
    return render(request, _template(request, "trial"), ctx)


@require_POST
def trial_again(request: HttpRequest, pk: int) -> HttpResponse:
    """Send one again that failed or lost its worker."""
    trial, status = _mine(request, pk), 200
    ctx: dict[str, Any] = {}
    try:
        trials.send_again(trial)
    except trials.NoQueue as down:
        ctx, status = {"refusal": str(down), "poll": SLOW_POLL}, 503
    trial = _mine(request, pk)
    if status == 200 and not _is_htmx(request):
        return redirect(trial)
    return render(request, _template(request, "trial"), _shown(trial) | ctx | {"text": trial.text}, status=status)


@require_POST
def trial_take_back(request: HttpRequest, pk: int) -> HttpResponse:
    trial = _mine(request, pk)
    trials.take_back(trial)
    if _is_htmx(request):
        return HttpResponse()
    return redirect("feature", trial.sae.slug, trial.index)


def _mine(request: HttpRequest, pk: int) -> Trial:
    visible = Trial.objects.visible_to(request.user).select_related("sae__model")
    return get_object_or_404(visible, pk=pk)


def _shown(trial: Trial) -> dict[str, Any]:
    """What the fragment says of a trial in any state."""
    return {
        "trial": trial,
        "answer": answers.answer_of(trial) if trial.state == Trial.State.DONE else None,
        "wait": why_waiting(INTERACTIVE) if trial.waits_long else None,
        "poll": next((ms for age, ms in POLLS if trial.age < age), SLOW_POLL),
    }


def _earlier(request: HttpRequest, sae: SAE, index: int) -> dict[str, Any]:
    here, elsewhere = answers.earlier(request.user, sae, index)
    return {"here": here, "elsewhere": elsewhere}


def _is_htmx(request: HttpRequest) -> bool:
    return bool(request.headers.get("HX-Request"))


def _template(request: HttpRequest, name: str) -> str:
    return f"jobs/_{name}.html" if _is_htmx(request) else f"jobs/{name}.html"
