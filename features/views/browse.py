"""Finding one's way: the first page, and the table of an SAE's features."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from features import listing, selectors
from features.forms import STATES, FeatureFilter
from features.models import SAE, Run

ROWS = 50
DEFAULT_ORDER = "index"


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    ctx = {"shelves": selectors.shelves(), "runs": Run.objects.latest_first()[:8]}
    return render(request, "features/home.html", ctx)


@require_safe
@vary_on_headers("HX-Request")
def feature_table(request: HttpRequest, slug: str) -> HttpResponse:
    """The page; htmx asks for the same address and gets the table alone."""
    sae = get_object_or_404(SAE.objects.select_related("model"), slug=slug)
    run = selectors.run_of(sae, request.GET.get("run", ""))
    ctx: dict[str, Any] = {"sae": sae, "run": run, "run_query": run_query(request)}
    if run is not None:
        ctx |= _table(request, run)
    alone = request.headers.get("HX-Request") and not request.headers.get("HX-History-Restore-Request")
    return render(request, "features/_table.html" if alone else "features/features.html", ctx)


def _table(request: HttpRequest, run: Run) -> dict[str, Any]:
    form = FeatureFilter(request.GET)
    form.is_valid()
    order = form.cleaned_data.get("order") or DEFAULT_ORDER
    found, lost = selectors.filtered(run, form), False
    try:
        page = listing.page(found, order, ROWS, request.GET.get("after", ""), request.GET.get("before", ""))
    except listing.ListingError:
        page, lost = listing.page(found, order, ROWS), True
    kept: dict[str, str] = {k: str(v) for k, v in request.GET.items() if v and k not in {"after", "before", "order"}}
    return {
        "form": form,
        "states": STATES,
        "state": form.cleaned_data.get("state") or "all",
        "order": order,
        "columns": [_column(name, order, kept) for name in ("index", "density", "max")],
        "count": found.count(),
        "rows": selectors.rows(run, page.items),
        "lost": lost,
        "next": page.next and urlencode(kept | {"order": order, "after": page.next}),
        "previous": page.previous and urlencode(kept | {"order": order, "before": page.previous}),
        "is_filtered": any(name in kept for name in ("q", "density_min", "density_max", "state")),
    }


def _column(name: str, order: str, kept: dict[str, str]) -> dict[str, str]:
    """A sortable column: where its heading leads, and which way it is sorted now, if it is."""
    first = name if name == "index" else f"-{name}"
    other = name if first.startswith("-") else f"-{name}"
    now = {name: "ascending", f"-{name}": "descending"}.get(order, "")
    return {"name": name, "sort": now, "query": urlencode(kept | {"order": other if order == first else first})}


def run_query(request: HttpRequest) -> str:
    """What a link adds to stay with the run that was chosen; nothing for the newest."""
    asked = request.GET.get("run", "")
    return "?" + urlencode({"run": asked}) if asked else ""
