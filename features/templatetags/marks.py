"""Texts with what a search found marked."""

from collections.abc import Iterable

from django import template
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

from features.search.marks import Piece
from features.templatetags.reading import visible

register = template.Library()


@register.filter
def marked_up(pieces: Iterable[Piece]) -> SafeString:
    """Each piece as escaped text, those that were found inside <mark>."""
    shown = ((escape(visible(piece.text)), piece.found) for piece in pieces)
    html = "".join(f"<mark>{text}</mark>" if found else text for text, found in shown)
    return mark_safe(html)  # noqa: S308 - every piece is escaped above
