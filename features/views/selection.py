"""The bar under a table: one action for all rows that are ticked."""

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_POST

from features.knowledge import labelling, naming, notes, rules
from features.knowledge.rules import Refused
from features.knowledge.undoing import Outcome, features, token
from features.models import Feature
from features.views.answers import here, on_rows, wants_part
from features.views.people import collected, relabelled

FIELDS = {"label": "text", "tag": "tag", "collect": "collection"}
"""The field that goes with a button."""


@require_POST
def selection(request: HttpRequest) -> HttpResponse:
    """``do`` what the button says to the features in ``feature`` (ticked) and ``features`` (a list)."""
    address = here(request, "/")
    try:
        rows = _chosen(request)
        outcome = _do(_meant(request), rows, request)
    except Refused as error:
        return _refused(request, str(error), address)
    return on_rows(request, outcome, address, relabelled(outcome.features))


def _chosen(request: HttpRequest) -> list[Feature]:
    listed = ",".join([*request.POST.getlist("feature"), request.POST.get("features", "")]).strip(" ,")
    if not listed:
        raise Refused("No feature is ticked: tick some rows first, with the mouse or with x.")
    return naming.find_named(naming.names_in(listed, sae=request.POST.get("sae", "")))


def _meant(request: HttpRequest) -> str:
    """The button that was pressed; for the enter key in a field, the one that goes with what was filled in."""
    if do := request.POST.get("do"):
        return do
    filled = [do for do, field in FIELDS.items() if request.POST.get(field, "").strip()]
    if len(filled) != 1:
        raise Refused("Press the button for what you mean: label, tag, star or collect.")
    return filled[0]


def _do(do: str, rows: list[Feature], request: HttpRequest) -> Outcome:
    keys, user = [row.pk for row in rows], request.user
    if do == "label":
        return _label(rows, request.POST.get("text", ""), user)
    if do == "tag":
        new = notes.tag(keys, rules.tag_names(request.POST.get("tag", "")), user)
        n = len({key for put in new.values() for key in put})
        names = ", ".join(f"“{name}”" for name in new)
        return Outcome(f"Put {names} on {features(n)}.", token(user, "untag", new) if n else "")
    if do == "star":
        new_stars = notes.star(keys, user)
        undo = token(user, "unstar", new_stars) if new_stars else ""
        return Outcome(f"Starred {features(len(new_stars))}: only you see it.", undo)
    if do == "collect":
        return collected(rows, request.POST.get("collection", ""), user)
    raise Refused("A selection can be labelled, tagged, starred or collected.")


def _label(rows: list[Feature], text: str, user: Any) -> Outcome:
    batch = labelling.give(rows, text, user)
    n = labelling.changes_of(batch)
    same = len(rows) - n
    said = f"Labelled {features(n)}." if n else "Nothing to change."
    if same:
        said += f" {features(same)} {'shows' if same == 1 else 'show'} this label of yours already."
    return Outcome(said, token(user, "labels", str(batch)) if n else "", features=[row.pk for row in rows])


def _refused(request: HttpRequest, sentence: str, address: str) -> HttpResponse:
    """In the page, its fields are as they were; else a page of its own holds the selection and what was typed."""
    if wants_part(request):
        return render(request, "features/people/_toast.html", {"bad": sentence}, status=422)
    ctx = {"fault": sentence, "typed": request.POST, "chosen": request.POST.getlist("feature"), "here": address}
    return render(request, "features/people/selection.html", ctx, status=422)
