"""Finding one's way: the first page, and the table of an SAE's features."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from features import selectors
from features.evidence import find_sae
from features.forms import FeatureFilter
from features.listing import STATES, FeatureListing, ListingError
from features.models import Run
from features.views.chosen import run_if_any, run_query

ROWS = 50
KEPT = ("run", "q", "state", "density_min", "density_max")
"""What the links of a table carry on, beside its order."""


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    ctx = {"shelves": selectors.shelves(), "runs": Run.objects.latest_first()[:8]}
    return render(request, "features/home.html", ctx)


@require_safe
@vary_on_headers("HX-Request")
def feature_table(request: HttpRequest, slug: str) -> HttpResponse:
    """The page; htmx asks for the same address and gets the table alone."""
    sae = find_sae(slug)
    run = run_if_any(request, sae)
    ctx: dict[str, Any] = {"sae": sae, "run": run, "run_query": run_query(request)}
    if run is not None:
        ctx |= _table(request, run)
    alone = request.headers.get("HX-Request") and not request.headers.get("HX-History-Restore-Request")
    return render(request, "features/_table.html" if alone else "features/features.html", ctx)


def _table(request: HttpRequest, run: Run) -> dict[str, Any]:
    form = FeatureFilter(request.GET)
    form.is_valid()
    listing, lost = form.listing(), False
    found = listing.rows(run)
    try:
        page = listing.page(found, ROWS, request.GET.get("after", ""), request.GET.get("before", ""))
    except ListingError:
        page, lost = listing.page(found, ROWS), True
    kept = {name: request.GET[name] for name in KEPT if request.GET.get(name) and name not in form.errors}
    return {
        "form": form,
        "states": list(STATES),
        "state": listing.state,
        "order": listing.order,
        "columns": [_column(name, listing.order, kept) for name in ("index", "density", "max")],
        "count": found.count(),
        "rows": selectors.rows(run, page.items),
        "lost": lost,
        "next": page.next and urlencode(kept | {"order": listing.order, "after": page.next}),
        "previous": page.previous and urlencode(kept | {"order": listing.order, "before": page.previous}),
        "is_filtered": listing != FeatureListing(listing.order),
    }


def _column(name: str, order: str, kept: dict[str, str]) -> dict[str, str]:
    """A sortable column: where its heading leads, and which way it is sorted now, if it is."""
    first = name if name == "index" else f"-{name}"
    other = name if first.startswith("-") else f"-{name}"
    now = {name: "ascending", f"-{name}": "descending"}.get(order, "")
    return {"name": name, "sort": now, "query": urlencode(kept | {"order": other if order == first else first})}
