"""A snapshot's archive as an answer: the same from a page, from a link and from the API."""

from django.http import HttpRequest, HttpResponse

from features.models import Snapshot
from features.sharing.exporting import archive_of


def as_file(request: HttpRequest, snapshot: Snapshot) -> HttpResponse:
    """A .zip to be saved. Raises Damaged."""
    archive = archive_of(snapshot, request.build_absolute_uri("/"))
    name = f'attachment; filename="evidence-{snapshot.digest[:16]}.zip"'
    return HttpResponse(archive, content_type="application/zip", headers={"Content-Disposition": name})
