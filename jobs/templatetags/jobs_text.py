"""Words for places, times and rates."""

from datetime import datetime

from django import template
from django.utils import timezone

register = template.Library()


@register.filter
def place_name(place: object) -> str:
    """The last part of a path or a package's name; a slug is its own name."""
    text = str(place or "?").rstrip("/").removeprefix("package:")
    return text.rsplit("/", 1)[-1] or "/"


@register.filter
def duration(seconds: float | None) -> str:
    """Time that has passed: ``41 s``, ``3 min 20 s``, ``2 h 5 min``."""
    if seconds is None:
        return "—"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


@register.filter
def roughly(seconds: float | None) -> str:
    """Time to come, no finer than it can be known: ``about 20 s``, ``about 3 min``, ``about 2.5 h``."""
    if seconds is None:
        return "—"
    if seconds < 10:
        return "a few seconds"
    if seconds < 90:
        return f"about {round(seconds / 10) * 10} s"
    if seconds < 5400:
        return f"about {round(seconds / 60)} min"
    return f"about {seconds / 3600:.1f} h"


@register.filter
def ago(moment: datetime) -> str:
    """``just now``, ``4 min ago``, ``3 h ago``, ``12 days ago``."""
    minutes = int((timezone.now() - moment).total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days ago"


@register.filter
def percent(fraction: float) -> str:
    """Rounded down: nothing is at 100 % before it is done."""
    return f"{int(fraction * 100)} %"
