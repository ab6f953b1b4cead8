"""How a page answers an action: in place for htmx, else with a redirect and a message. What was typed is never lost."""

from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme

from features.knowledge.people import knowledge_of, people_of
from features.knowledge.rules import Refused
from features.knowledge.undoing import Outcome
from features.models import Feature


def wants_part(request: HttpRequest) -> bool:
    """htmx asks for what changes, unless it restores a page that it went back to."""
    return bool(request.headers.get("HX-Request")) and not request.headers.get("HX-History-Restore-Request")


def here(request: HttpRequest, otherwise: str) -> str:
    """The page that the form stood on, as it says itself: an address of this site, else ``otherwise``."""
    address = request.POST.get("next", "")
    ours = url_has_allowed_host_and_scheme(address, {request.get_host()}, require_https=request.is_secure())
    return address if ours and address.startswith("/") and "\0" not in address else otherwise


def back(request: HttpRequest, outcome: Outcome, address: str) -> HttpResponse:
    """A redirect with a message that can be undone."""
    messages.success(request, outcome.text, extra_tags=_tags(outcome))
    return redirect(address)


def _tags(outcome: Outcome) -> str:
    return f"{'redo' if outcome.redoes else 'undo'}:{outcome.undo}" if outcome.undo else ""


def on_feature(request: HttpRequest, feature: Feature, outcome: Outcome) -> HttpResponse:
    """What was done on a feature's page: its title, its head and what people said, as they are now."""
    address = here(request, feature.get_absolute_url())
    if not wants_part(request):
        return back(request, outcome, address)
    ctx = feature_context(request, feature) | {"here": address, "outcome": outcome}
    return render(request, "features/people/_answer.html", ctx)


def refused_on_feature(request: HttpRequest, feature: Feature, form: str, error: Refused) -> HttpResponse:
    """The form that was refused, as it was filled in, with the reason: in its place, or on the page of labels."""
    ctx = feature_context(request, feature) | {"here": here(request, feature.get_absolute_url())}
    ctx |= {"fault": {form: str(error)}, "typed": {form: request.POST}}
    part = wants_part(request)
    return render(request, "features/people/_answer.html" if part else "features/people/page.html", ctx, status=422)


def on_rows(request: HttpRequest, outcome: Outcome, address: str, changed: list[Feature]) -> HttpResponse:
    """What was done to rows of a table: the labels of those that changed, and the sentence."""
    if not wants_part(request):
        return back(request, outcome, address)
    ctx = {"outcome": outcome, "changed": changed, "here": address}
    return render(request, "features/people/_rows_answer.html", ctx)


def feature_context(request: HttpRequest, feature: Feature) -> dict[str, Any]:
    """What the fragments of a feature need: four queries."""
    return {
        "sae": feature.sae,
        "feature": feature,
        "people": people_of(feature, request.user),
        "knowledge": knowledge_of(feature, request.user),
    }
