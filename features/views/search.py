"""The page of search: one box, all SAEs or some, and a ranked list that says why each feature is in it."""

from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from features.search.hybrid import MODES, search
from features.search.lines import lines
from features.search.query import Query, QueryError
from features.search.scope import Scope, find_scope
from features.views.answers import wants_part

ROWS = 50
NAMES = {"all": "everything", "label": "labels", "text": "example text", "meaning": "meaning"}


@require_safe
@vary_on_headers("HX-Request")
def search_page(request: HttpRequest) -> HttpResponse:
    """``q`` in ``in`` (``model/slug`` or ``sae/slug``) by ``mode``; htmx asks for the same address and gets the list
    alone. Seven queries at most, two of them for who is signed in.
    """
    chosen = request.GET.get("in", "")
    kind, _, slug = chosen.partition("/")
    scope = find_scope(**{kind: slug} if kind in {"sae", "model"} else {})
    mode = request.GET.get("mode", "all")
    mode = mode if mode in MODES else "all"
    q = request.GET.get("q", "")
    ctx: dict[str, Any] = {"q": q.strip(), "scope": scope, "in": chosen, "mode": mode, "modes": NAMES.items()}
    part = wants_part(request)
    try:
        ctx |= _found(Query.parse(q), scope, mode, _page(request))
    except QueryError as error:
        ctx["fault"] = str(error)
    template = "features/_search_results.html" if part else "features/search.html"
    return render(request, template, ctx, status=422 if "fault" in ctx and not part else 200)


def _found(query: Query, scope: Scope, mode: str, page: int) -> dict[str, Any]:
    if not query:
        return {"nothing_asked": True}
    results = search(query, scope, mode)
    start = ROWS * (page - 1)
    kept = {"q": query.text, "in": _named(scope), "mode": "" if mode == "all" else mode}
    return {
        "total": len(results.hits),
        "capped": results.capped,
        "start": start,
        "lines": lines(results.hits[start : start + ROWS], scope),
        "next": _address(kept, page + 1) if len(results.hits) > start + ROWS else "",
        "previous": _address(kept, page - 1) if page > 1 else "",
        "elsewhere": _address(kept | {"in": "", "mode": ""}, 1) if scope.saes is not None or mode != "all" else "",
    }


def _named(scope: Scope) -> str:
    if scope.sae:
        return f"sae/{scope.sae.slug}"
    return f"model/{scope.model.slug}" if scope.model else ""


def _address(kept: dict[str, str], page: int) -> str:
    return urlencode({name: value for name, value in kept.items() if value} | ({"page": page} if page > 1 else {}))


def _page(request: HttpRequest) -> int:
    """From 1; whatever else the address says is the first."""
    asked = request.GET.get("page", "1")
    return max(1, int(asked)) if asked.isdecimal() and len(asked) < 5 else 1
