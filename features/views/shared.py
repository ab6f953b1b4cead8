"""What a link opens: read without an account and without JavaScript, by whoever has it, for as long as it lives."""

from collections.abc import Callable
from typing import cast

from csp.decorators import csp_replace
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from features.models import ShareLink
from features.sharing import freezing, links, rendering
from features.sharing.files import as_file
from features.sharing.freezing import Damaged
from features.sharing.signing import signer

View = Callable[..., HttpResponse]
_nothing_runs = cast(Callable[[View], View], csp_replace({"script-src": ["'none'"], "connect-src": ["'none'"]}))


# A form here carries a password and the right of nobody who is signed in, so it needs no token against forgery; and
# pages that tell nobody where they were read from have no origin that one could be checked against.
@csrf_exempt
@_nothing_runs
@require_http_methods(["GET", "HEAD", "POST"])
def shared(request: HttpRequest, token: str) -> HttpResponse:
    """The evidence; its password's form; or that there is nothing. Five queries at most."""
    return _private(_answer(request, token))


@_nothing_runs
@require_http_methods(["GET"])
def shared_archive(request: HttpRequest, token: str) -> HttpResponse:
    """The signed archive, for whoever may see the page."""
    link = links.find(token)
    if link is None or not links.is_open_to(link, request) or links.is_robot(request):
        return _private(_gone(request))
    links.log_view(link, request)
    return _private(as_file(request, link.snapshot))


@require_http_methods(["GET", "HEAD"])
def evidence_key(request: HttpRequest) -> HttpResponse:
    """The public key of this site, with which anybody checks what it signed."""
    return HttpResponse(signer().public_pem, content_type="application/x-pem-file; charset=utf-8")


def _answer(request: HttpRequest, token: str) -> HttpResponse:
    link = links.find(token)
    if link is None:
        return _gone(request)
    if request.method == "GET" and links.is_robot(request):
        links.log_view(link, request)
        return render(request, "sharing/preview.html", {"link": link, "snapshot": link.snapshot})
    if links.is_open_to(link, request):
        return _shown(request, link, token)
    password = request.POST.get("password", "")
    return _tried(request, link, token, password) if password else render(request, "sharing/locked.html")


def _tried(request: HttpRequest, link: ShareLink, token: str, password: str) -> HttpResponse:
    try:
        right = links.try_password(link, password, request)
    except links.TooManyTries as error:
        fault = f"Too many wrong passwords. Wait {error.seconds // 60} minutes, then try again."
        response = render(request, "sharing/locked.html", {"fault": fault}, status=429)
        response["Retry-After"] = str(error.seconds)
        return response
    if not right:
        return render(request, "sharing/locked.html", {"fault": "This is not the password."}, status=403)
    response = _shown(request, link, token)
    links.unlock(link, request, response)
    return response


def _shown(request: HttpRequest, link: ShareLink, token: str) -> HttpResponse:
    snapshot = link.snapshot
    try:
        frozen = freezing.read(snapshot)
    except Damaged as damaged:
        return render(request, "sharing/damaged.html", {"fault": str(damaged)}, status=500)
    if request.method != "HEAD":
        links.log_view(link, request, is_person=request.method == "POST")
    ctx = {"link": link, "token": token, "snapshot": snapshot, "frozen": frozen}
    ctx |= {"chain": freezing.chain_of(snapshot), "evidence": rendering.evidence_html(frozen, snapshot.digest)}
    return render(request, "sharing/shared.html", ctx)


def _gone(request: HttpRequest) -> HttpResponse:
    return render(request, "sharing/gone.html", status=404)


def _private(response: HttpResponse) -> HttpResponse:
    """Nobody keeps a copy, nobody indexes it, and no page that is opened from it learns the address."""
    response["Cache-Control"] = "no-store, private"
    response["Referrer-Policy"] = "no-referrer"
    response["X-Robots-Tag"] = "noindex, nofollow, noarchive"
    patch_vary_headers(response, ["Cookie"])
    return response
