"""The tags of features.sharing.rendering: what a snapshot's page repeats."""

from typing import Any

from django import template
from django.template.context import RequestContext
from django.urls import reverse

from features.sharing import rendering

register = template.Library()


@register.filter
def evidence_template(kind: str) -> str:
    """The fragment for a kind of snapshot, which features.sharing.shapes has checked to be one of five."""
    return f"sharing/_{kind}.html"


register.simple_tag(rendering.examples_html, name="frozen_examples")
register.simple_tag(rendering.near_html, name="frozen_near")
register.simple_tag(rendering.tokens_html, name="frozen_tokens")


@register.inclusion_tag("sharing/_share.html", takes_context=True)
def share(context: RequestContext, kind: str, *, small: bool = False, **named: Any) -> dict[str, Any]:
    """``{% share "feature" sae=sae.slug index=feature.index run=run.pk %}``: a button that freezes it and makes a link.

    Nothing for those who may only look.
    """
    return {
        "kind": kind,
        "named": {name: value for name, value in named.items() if value not in {None, ""}},
        "action": reverse("freeze"),
        "csrf_token": context.get("csrf_token"),
        "may": context.get("may"),
        "small": small,
    }
