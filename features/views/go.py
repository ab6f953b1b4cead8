"""The box in the header: from a few characters straight to a page, or to what a search finds."""

import re
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.http import require_safe

from features.models import SAE, Feature
from features.search.query import MAX_QUERY


@require_safe
def goto(request: HttpRequest) -> HttpResponse:
    """``sae/index``, an SAE, an index of the current SAE, or the only feature with this label; or else a search."""
    text = request.GET.get("q", "").strip()[:MAX_QUERY].replace("\x00", "")
    sae = SAE.objects.filter(slug=request.GET.get("sae", "").replace("\x00", "")).first()
    if found := text and (_place(text, sae) or _labelled(text)):
        return redirect(found)
    return redirect(reverse("search") + ("?" + urlencode({"q": text}) if text else ""))


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


def _labelled(text: str) -> str:
    """The only feature whose label is ``text``, with or without a rule's quotes."""
    features = Feature.objects.select_related("sae").defer("logits", "neighbours")
    found = list(features.filter(label__text__in=[text, f"“{text}”"])[:2])
    return found[0].get_absolute_url() if len(found) == 1 else ""
