"""Answers that pages, links and the API have in common: a snapshot's archive, and that a snapshot is damaged."""

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from features.models import Snapshot
from features.sharing.exporting import archive_of


def as_file(request: HttpRequest, snapshot: Snapshot) -> HttpResponse:
    """A .zip to be saved. Raises Damaged."""
    archive = archive_of(snapshot, request.build_absolute_uri("/"))
    name = f'attachment; filename="evidence-{snapshot.digest[:16]}.zip"'
    return HttpResponse(archive, content_type="application/zip", headers={"Content-Disposition": name})


def damaged(request: HttpRequest, error: Exception) -> HttpResponse:
    """``error``: Damaged or Unreadable."""
    return render(request, "sharing/damaged.html", {"fault": str(error)}, status=500)
