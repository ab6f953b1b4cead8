"""Frozen evidence and its links, for programs."""

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from ninja import Field, Router, Schema, Status

from features.api.auth import researcher, viewer
from features.api.people import DONE, PROBLEMS, actor
from features.models import Snapshot
from features.sharing import freezing, links
from features.sharing.files import as_file
from features.sharing.freezing import find_snapshot

router = Router(tags=["Evidence"])


class ThingIn(Schema):
    """What to freeze. A feature: sae, index and, if not the newest, run. A run: run. A comparison: a and b, each
    ``sae/index``. A collection: its slug. A text that was tried: trial.
    """

    kind: Literal["feature", "text", "comparison", "run", "collection"]
    sae: str | None = None
    index: int | None = None
    run: int | None = None
    a: str | None = None
    b: str | None = None
    collection: str | None = None
    trial: int | None = None


class SnapshotOut(Schema):
    digest: str = Field(description="sha256 of its canonical JSON, as hex: the same content has the same")
    kind: str
    title: str
    url: str = Field(description="its page, for those who sign in")


class LinkIn(Schema):
    expires_in_days: int = Field(links.DAYS, ge=1, le=links.MOST_DAYS)
    password: str = Field("", max_length=links.MAX_PASSWORD, description="8 characters or more; empty for none")
    preview: bool = Field(False, description="chat programs may show its title")
    note: str = Field("", max_length=200, description="whom it is for; only you see it")


class LinkOut(Schema):
    id: int = Field(description="to revoke it; whoever has the address cannot")
    url: str = Field(description="the secret address: it is in this answer and nowhere else")
    expires_at: datetime


@router.post("/snapshots", auth=researcher, response={200: SnapshotOut, **PROBLEMS}, summary="Freeze what a page shows")
def freeze(request: HttpRequest, body: ThingIn) -> Any:
    named = body.model_dump(exclude={"kind"}, exclude_none=True)
    return _described(request, freezing.freeze(body.kind, named, actor(request)))


@router.get("/snapshots/{digest}", auth=viewer, response={200: dict[str, Any], **PROBLEMS}, summary="What was frozen")
def get_snapshot(request: HttpRequest, digest: str) -> Any:
    """Its canonical JSON, byte for byte: the sha256 of the answer's body is the digest."""
    body = freezing.body_of(find_snapshot(digest, actor(request)))
    return HttpResponse(body, content_type="application/json")


@router.post(
    "/snapshots/{digest}/links",
    auth=researcher,
    response={200: LinkOut, **PROBLEMS},
    summary="Make a link that opens it without an account",
)
def make_link(request: HttpRequest, digest: str, body: LinkIn) -> Any:
    user = actor(request)
    link, token = links.issue(
        find_snapshot(digest, user),
        user,
        days=body.expires_in_days,
        password=body.password,
        preview=body.preview,
        note=body.note,
    )
    address = request.build_absolute_uri(reverse("shared", args=[token]))
    return {"id": link.pk, "url": address, "expires_at": link.expires_at}


@router.delete("/links/{link}", auth=researcher, response=DONE, summary="Take a link back: one's own")
def revoke_link(request: HttpRequest, link: int) -> Any:
    user = actor(request)
    links.revoke(links.find_own(link, user), user)
    return Status(204, None)


@router.get(
    "/snapshots/{digest}/export",
    auth=viewer,
    response={200: None, **PROBLEMS},
    summary="The signed archive, a .zip",
    openapi_extra={"responses": {200: {"content": {"application/zip": {"schema": {"type": "string"}}}}}},
)
def export_snapshot(request: HttpRequest, digest: str) -> Any:
    return as_file(request, find_snapshot(digest, actor(request)))


def _described(request: HttpRequest, snapshot: Snapshot) -> dict[str, Any]:
    address = request.build_absolute_uri(snapshot.get_absolute_url())
    return {"digest": snapshot.digest, "kind": snapshot.kind, "title": snapshot.title, "url": address}
