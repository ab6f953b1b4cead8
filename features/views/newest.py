"""Lists that begin with the newest row and go on by its key."""

from typing import Any

from django.db.models import QuerySet
from django.http import HttpRequest

PAGE = 50


def newest(request: HttpRequest, found: QuerySet[Any]) -> dict[str, Any]:
    """``rows``: a page of ``found``, older than ``?before=``. ``older``: what the next page is before, if any."""
    before = request.GET.get("before", "")
    if before.isascii() and before.isdecimal() and len(before) < 19:
        found = found.filter(pk__lt=int(before))
    rows = list(found.order_by("-pk")[: PAGE + 1])
    return {"rows": rows[:PAGE], "older": rows[PAGE - 1].pk if len(rows) > PAGE else None}
