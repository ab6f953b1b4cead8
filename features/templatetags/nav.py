"""Where in the site a page is."""

from django import template
from django.utils.safestring import SafeString, mark_safe

register = template.Library()


@register.filter
def current(path: str, address: str) -> SafeString:
    """The attribute that marks a link to ``address`` if the page at ``path`` is that one, or one below it."""
    here = bool(address) and (path == address or (address != "/" and path.startswith(address)))
    return mark_safe(' aria-current="page"' if here else "")  # noqa: S308 - a constant
