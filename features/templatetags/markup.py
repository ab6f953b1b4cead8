"""The tags of features.markup: what a page repeats."""

from typing import Any

from django import template
from django.template.context import RequestContext
from django.utils.safestring import SafeString

from features.evidence import Related
from features.markup import bars_html, effects_html, example_html, label_html, related_html, rows_html
from features.models import Label
from features.selectors import ReadableExample, Row

register = template.Library()


@register.simple_tag
def label(label: Label | None) -> SafeString:
    """``{% label feature.label %}``"""
    return label_html(label)


@register.simple_tag(takes_context=True)
def lines(context: RequestContext, rows: list[Row]) -> SafeString:
    """``{% lines rows %}``: reads ``run_query``, ``selectable`` and ``with_sae`` where they are set."""
    flags: dict[str, Any] = {name: bool(context.get(name)) for name in ("selectable", "with_sae")}
    return rows_html(rows, context.get("run_query") or "", **flags)


@register.simple_tag(takes_context=True)
def examples(context: RequestContext, *shown: ReadableExample) -> SafeString:
    """``{% examples example %}`` or ``{% examples_of band.examples %}``: reads ``address`` (of the feature), ``run``,
    ``run_query`` and ``open``.
    """
    address, run, query = context["address"], context["run"], context.get("run_query") or ""
    unfolded = bool(context.get("open"))
    return SafeString("".join([example_html(each, address, run, query, unfolded=unfolded) for each in shown]))


@register.simple_tag(takes_context=True)
def examples_of(context: RequestContext, shown: list[ReadableExample]) -> SafeString:
    """``{% examples_of band.examples %}``"""
    return examples(context, *shown)


@register.simple_tag(takes_context=True)
def related(context: RequestContext, features: list[Related]) -> SafeString:
    """``{% related relatives.decoder %}``: reads ``base``, the address of the SAE's features, and ``run_query``."""
    return related_html(features, context["base"], context.get("run_query") or "")


register.simple_tag(effects_html, name="effects")
register.simple_tag(bars_html, name="bars")
