"""Frozen evidence, for those who sign in: freeze and share, look at one, export it, open one from elsewhere."""

from typing import Any

from django.contrib import messages
from django.db.models import Prefetch
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from features.evidence import NotFound
from features.knowledge.rules import Refused
from features.models import Received, ShareLink, Snapshot
from features.sharing import freezing, links
from features.sharing.files import as_file, damaged
from features.sharing.freezing import Damaged, find_snapshot
from features.sharing.shapes import Unreadable
from features.views.answers import wants_part
from features.views.newest import PAGE, newest

MAX_ARCHIVE = 32 << 20
NAMES = ("sae", "index", "run", "a", "b", "collection", "trial")
"""What a form may name the thing with that is to be frozen."""


@require_safe
def snapshots(request: HttpRequest) -> HttpResponse:
    """Those that one may see, the newest first. Two queries."""
    found = Snapshot.objects.visible_to(request.user).defer("packed", "page")
    found = found.prefetch_related("freezings", Prefetch("received", Received.objects.defer("archive")))
    return render(request, "sharing/snapshots.html", newest(request, found))


@require_POST
def freeze(request: HttpRequest) -> HttpResponse:
    """Freeze what the form names and make a link to it, in one step. The address is in this answer and nowhere else."""
    named = {name: request.POST[name] for name in NAMES if request.POST.get(name)}
    try:
        asked = _asked(request)
        snapshot = freezing.freeze(request.POST.get("kind", ""), named, request.user)
        link, token = links.issue(snapshot, request.user, **asked)
    except (Refused, Unreadable, NotFound) as error:
        status = 404 if isinstance(error, NotFound) else 422
        return _made(request, {"fault": str(error), "kind": request.POST.get("kind", ""), "named": named}, status)
    return _made(request, _new(request, snapshot, link, token))


@require_safe
def snapshot(request: HttpRequest, digest: str) -> HttpResponse:
    """What was frozen, with its links. Eight queries."""
    return _page(request, find_snapshot(digest, request.user))


@require_POST
def make_link(request: HttpRequest, digest: str) -> HttpResponse:
    """Another link to what is frozen already."""
    found = find_snapshot(digest, request.user)
    try:
        link, token = links.issue(found, request.user, **_asked(request))
    except Refused as error:
        return _made(request, {"fault": str(error), "snapshot": found}, 422)
    return _made(request, _new(request, found, link, token))


@require_safe
def export(request: HttpRequest, digest: str) -> HttpResponse:
    """The signed archive."""
    try:
        return as_file(request, find_snapshot(digest, request.user))
    except (Damaged, Unreadable) as error:
        return damaged(request, error)


@require_http_methods(["GET", "HEAD", "POST"])
def receive(request: HttpRequest) -> HttpResponse:
    """Open an archive that somebody sent: this site's or another's."""
    if request.method != "POST":
        return render(request, "sharing/receive.html")
    try:
        came = freezing.receive(_file(request), request.user)
    except (Refused, Unreadable) as error:
        return render(request, "sharing/receive.html", {"fault": str(error)}, status=422)
    messages.success(request, f"It is as it was signed, by the key {came.fingerprint[:16]}…")
    return redirect(came.snapshot)


def _file(request: HttpRequest) -> bytes:
    file = request.FILES.get("archive")
    if file is None:
        raise Refused("Choose an archive: a .zip that Featurescope exported.")
    if file.size is None or file.size > MAX_ARCHIVE:
        raise Refused(f"An archive has at most {MAX_ARCHIVE >> 20} MiB.")
    return bytes(file.read())


def _asked(request: HttpRequest) -> dict[str, Any]:
    """What the form says of a link. Raises Refused."""
    days = request.POST.get("days") or str(links.DAYS)
    if not (days.isascii() and days.isdecimal() and len(days) < 5):
        raise Refused(f"A link ends after 1 to {links.MOST_DAYS} days.")
    return {
        "days": int(days),
        "password": request.POST.get("password", ""),
        "preview": bool(request.POST.get("preview")),
        "note": request.POST.get("note", ""),
    }


def _new(request: HttpRequest, found: Snapshot, link: ShareLink, token: str) -> dict[str, Any]:
    address = request.build_absolute_uri(reverse("shared", args=[token]))
    return {"snapshot": found, "link": link, "address": address}


def _made(request: HttpRequest, ctx: dict[str, Any], status: int = 200) -> HttpResponse:
    template = "sharing/_made.html" if wants_part(request) else "sharing/made.html"
    response = render(request, template, ctx, status=status)
    response["Cache-Control"] = "no-store, private"  # it may hold a link's secret
    return response


def _page(request: HttpRequest, found: Snapshot) -> HttpResponse:
    try:
        evidence = freezing.page_of(found)
    except (Damaged, Unreadable) as error:
        return damaged(request, error)
    own = ShareLink.objects.visible_to(request.user).filter(snapshot=found).with_views()[:PAGE]
    ctx = {"snapshot": found, "evidence": evidence, "links": own, "chain": freezing.chain_of(found)}
    return render(request, "sharing/snapshot.html", ctx)
