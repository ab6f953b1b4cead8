"""Finding one's way: the first page, and the table of an SAE's features."""

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from features import selectors
from features.filters import LABELS, STATES, ListingError
from features.forms import KEPT, FeatureFilter
from features.listing import FeatureListing, Found
from features.models import Run
from features.views.chosen import run_query, sae_and_run

ROWS = 50
COLUMNS = {"index": "Index", "density": "Density", "max": "Maximum", "mean": "Mean"}
"""What a table is sorted by, and how that is headed."""


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    ctx = {"shelves": selectors.shelves(), "runs": Run.objects.latest_first()[:8]}
    return render(request, "features/home.html", ctx)


@require_safe
@vary_on_headers("HX-Request")
def feature_table(request: HttpRequest, slug: str) -> HttpResponse:
    """The page; htmx asks for the same address and gets the table alone."""
    sae, run = sae_and_run(request, slug)
    ctx: dict[str, Any] = {"sae": sae, "run": run, "run_query": run_query(request)}
    if run is not None:
        ctx |= _table(request, run)
    alone = request.headers.get("HX-Request") and not request.headers.get("HX-History-Restore-Request")
    return render(request, "features/_table.html" if alone else "features/features.html", ctx)


def _table(request: HttpRequest, run: Run) -> dict[str, Any]:
    form = FeatureFilter(request.GET)
    form.is_valid()
    listing, found, fault = _found(form, run, request.user)
    after, before, lost = request.GET.get("after", ""), request.GET.get("before", ""), False
    try:
        page = found.page(ROWS, after, before)
    except ListingError:
        page, lost = found.page(ROWS), True
    kept = {name: request.GET[name] for name in KEPT if request.GET.get(name) and name not in form.errors}
    return {
        "form": form,
        "fault": fault,
        "states": STATES,
        "labels": LABELS,
        "listing": listing,
        "columns": {name: _column(name, listing.order, kept) for name in COLUMNS},
        "found": found,
        "rows": selectors.rows(run, page.items),
        "lost": lost,
        "next": page.next and urlencode(kept | {"order": listing.order, "after": page.next}),
        "previous": page.previous and urlencode(kept | {"order": listing.order, "before": page.previous}),
        "is_filtered": listing != FeatureListing(listing.order),
    }


def _found(form: FeatureFilter, run: Run, user: Any) -> tuple[FeatureListing, Found, str]:
    """What the form asks for; without its search, if that is what cannot be meant, and the sentence that says so."""
    listing = form.listing()
    try:
        return listing, listing.of(run, user), ""
    except ListingError as error:
        listing = replace(listing, q="")
        return listing, listing.of(run, user), str(error)


def _column(name: str, order: str, kept: dict[str, str]) -> dict[str, str]:
    """A sortable column: where its heading leads, and which way it is sorted now, if it is."""
    first = name if name == "index" else f"-{name}"
    other = name if first.startswith("-") else f"-{name}"
    now = {name: "ascending", f"-{name}": "descending"}.get(order, "")
    query = urlencode(kept | {"order": other if order == first else first})
    return {"name": name, "heading": COLUMNS[name], "sort": now, "query": query}
