"""The register of links: one's own, and for administrators everybody's; who opened them; and taking one back."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from features.models import ShareLink
from features.sharing import links
from features.views.newest import newest

VIEWS = 200


@require_safe
def register(request: HttpRequest) -> HttpResponse:
    """The newest first; ``?alive=1`` leaves out those that open nothing any more. One query."""
    found, alive = ShareLink.objects.visible_to(request.user).with_views(), bool(request.GET.get("alive"))
    ctx = newest(request, found.alive() if alive else found)
    return render(request, "sharing/links.html", ctx | {"alive": alive})


@require_safe
def link_page(request: HttpRequest, pk: int) -> HttpResponse:
    """Who opened it."""
    link = links.find_own(pk, request.user)
    return render(request, "sharing/link.html", {"link": link, "views": link.views.all()[:VIEWS]})


@require_POST
def revoke(request: HttpRequest, pk: int) -> HttpResponse:
    """It opens nothing from now on."""
    link = links.find_own(pk, request.user)
    if links.revoke(link, request.user):
        messages.success(request, f"Link {link.pk} is taken back: it opens nothing any more.")
    back = "snapshot" if request.POST.get("next") == "snapshot" else "links"
    return redirect(back, *([link.snapshot.digest] if back == "snapshot" else []))
