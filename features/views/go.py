"""The box in the header: from a few characters to a page."""

import re

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_safe

from features import selectors
from features.models import SAE

LIMIT = 50


@require_safe
def goto(request: HttpRequest) -> HttpResponse:
    """``sae/index``, an SAE, an index of the current SAE, or a label; what is not unique becomes a list."""
    text = request.GET.get("q", "").strip()[:200].replace("\x00", "")
    sae = SAE.objects.filter(slug=request.GET.get("sae", "").replace("\x00", "")).first()
    if found := _place(text, sae):
        return redirect(found)
    features = selectors.labelled(text, LIMIT + 1) if text else []
    if len(features) == 1:
        return redirect(features[0])
    ctx = {"goto_text": text, "sae": sae, "features": features[:LIMIT], "more": len(features) > LIMIT}
    return render(request, "features/goto.html", ctx | {"saes": SAE.objects.for_listing()})


def _place(text: str, sae: SAE | None) -> str:
    """The address that ``text`` names, if it names one that exists."""
    slug, slash, index = text.rpartition("/")
    if slash:
        sae = SAE.objects.filter(slug=slug.strip().strip("/")).first()
    elif named := SAE.objects.filter(slug=text).first():
        return named.get_absolute_url()
    feature = None
    if sae and re.fullmatch(r"[0-9]{1,9}", index.strip()):
        feature = sae.features.filter(index=int(index)).select_related("sae").first()
    return feature.get_absolute_url() if feature else ""
