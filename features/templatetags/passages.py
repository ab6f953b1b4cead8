"""A passage in a template, as one tag: its tokens are too many for a template's loop."""

from django import template
from django.utils.safestring import SafeString

from features.passages import Passage, passage_html

register = template.Library()


@register.simple_tag(name="passage")
def passage_tag(passage: Passage, breaks: bool = False, still: bool = False) -> SafeString:
    """``{% passage row.passage still=1 %}``: see features.passages.passage_html."""
    return passage_html(passage, breaks=bool(breaks), still=bool(still))
