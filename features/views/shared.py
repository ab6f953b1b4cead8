"""What a link opens: read without an account and without JavaScript, by whoever has it, for as long as it lives."""

from collections.abc import Callable
from functools import wraps
from typing import cast

from csp.decorators import csp_replace
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods

from features.models import ShareLink
from features.sharing import freezing, links
from features.sharing.files import as_file, damaged
from features.sharing.freezing import Damaged
from features.sharing.shapes import Unreadable
from features.sharing.signing import signer

View = Callable[..., HttpResponse]
_nothing_runs = cast(Callable[[View], View], csp_replace({"script-src": ["'none'"], "connect-src": ["'none'"]}))


def _private(view: View) -> View:
    """Nobody keeps a copy, nobody indexes it, and no page that is opened from it learns the address: of every answer,
    a refusal too.
    """

    @wraps(view)
    def private(request: HttpRequest, token: str) -> HttpResponse:
        response = view(request, token)
        response["Cache-Control"] = "no-store, private"
        response["Referrer-Policy"] = "no-referrer"
        response["X-Robots-Tag"] = "noindex, nofollow, noarchive"
        patch_vary_headers(response, ["Cookie"])
        return response

    return private


# A form here carries a password and the right of nobody who is signed in, so it needs no token against forgery; and
# pages that tell nobody where they were read from have no origin that one could be checked against.
@csrf_exempt
@_private
@_nothing_runs
@require_http_methods(["GET", "HEAD", "POST"])
def shared(request: HttpRequest, token: str) -> HttpResponse:
    """The evidence; its password's form; or that there is nothing. Five queries at most."""
    link = links.find(token)
    if link is None:
        return _gone(request)
    if _looks_ahead(request):
        return _previewed(request, link)
    if links.is_open_to(link, request):
        return _shown(request, link, token)
    password = request.POST.get("password", "")
    return _tried(request, link, token, password) if password else render(request, "sharing/locked.html")


@csrf_exempt
@_private
@_nothing_runs
@require_http_methods(["GET", "HEAD", "POST"])
def shared_archive(request: HttpRequest, token: str) -> HttpResponse:
    """The signed archive, for whoever may see the page."""
    link = links.find(token)
    if link is None or not links.is_open_to(link, request):
        return _gone(request)
    if _looks_ahead(request):
        return _previewed(request, link)
    try:
        archive = as_file(request, link.snapshot)
    except (Damaged, Unreadable) as error:
        return damaged(request, error)
    _log(request, link)
    return archive


@require_http_methods(["GET", "HEAD"])
def evidence_key(request: HttpRequest) -> HttpResponse:
    """The public key of this site, with which anybody checks what it signed."""
    return HttpResponse(signer().public_pem, content_type="application/x-pem-file; charset=utf-8")


def _looks_ahead(request: HttpRequest) -> bool:
    """A program does, until somebody presses the button."""
    return request.method != "POST" and links.is_robot(request)


def _previewed(request: HttpRequest, link: ShareLink) -> HttpResponse:
    _log(request, link)
    return render(request, "sharing/preview.html", {"link": link, "snapshot": link.snapshot})


def _log(request: HttpRequest, link: ShareLink) -> None:
    if request.method != "HEAD":
        links.log_view(link, request, is_person=request.method == "POST")


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
        evidence = freezing.page_of(snapshot)
    except (Damaged, Unreadable) as error:
        return damaged(request, error)
    _log(request, link)
    ctx = {"link": link, "token": token, "snapshot": snapshot}
    ctx |= {"chain": freezing.chain_of(snapshot), "evidence": evidence}
    return render(request, "sharing/shared.html", ctx)


def _gone(request: HttpRequest) -> HttpResponse:
    return render(request, "sharing/gone.html", status=404)
