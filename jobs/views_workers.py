"""The workers and their queues. Everybody signed in may look."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from jobs.workers import overview


@require_safe
@vary_on_headers("HX-Request")
def worker_list(request: HttpRequest) -> HttpResponse:
    fragment = request.headers.get("HX-Request")
    return render(request, "jobs/_workers.html" if fragment else "jobs/workers.html", {"overview": overview()})
