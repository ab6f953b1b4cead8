"""Filters: numbers as people read them, and tokens whose every character shows."""

import math
import re
import unicodedata
from typing import Any

from django import template
from django.template.defaultfilters import floatformat

from features.models import Label

register = template.Library()

_SHOWN = {"\n": "↵", "\r": "␍", "\t": "⇥", "\x7f": "␡"}
_JOINERS = {"\u200c", "\u200d"}  # part of how scripts and emoji are written


@register.filter
def visible(text: str, breaks: str = "") -> str:
    """``text`` with control and format characters named. With ``breaks``, a newline also breaks the line."""
    if text.isprintable():
        return text
    shown = text.translate(_SIGNS)
    return shown.replace("↵", "↵\n") if breaks else shown


def _character(c: str) -> str:
    if c.isprintable() or c in _JOINERS or unicodedata.category(c) == "Zs":
        return c
    if c in _SHOWN:
        return _SHOWN[c]
    return chr(0x2400 + ord(c)) if c < " " else f"⟨U+{ord(c):04X}⟩"


class _Signs(dict[int, str]):
    """What stands for each character, worked out once: str.translate reads it at the speed of C."""

    def __missing__(self, code: int) -> str:
        shown = _character(chr(code))
        return self.setdefault(code, shown) if len(self) < 20_000 else shown


_SIGNS = _Signs()


@register.filter
def token(text: str, breaks: str = "") -> str:
    """A token that stands alone: one of nothing but spaces shows each of them, one of nothing shows a sign."""
    if not text:
        return "∅"
    return visible(text.replace(" ", "␣") if text.isspace() else text, breaks)


@register.filter
def signif(value: float | None, digits: int = 3) -> str:
    """At least ``digits`` significant digits, without an exponent where a person would write none."""
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    if value == 0:
        return "0"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits - 1}e}" if places > 8 else f"{value:,.{places}f}"


@register.filter
def measured(value: float | None, digits: int = 3) -> str:
    """A figure with so many decimal places; says so where nobody measured it, as in a run that was imported."""
    return floatformat(value, digits) or "not measured"


@register.filter
def percent(share: float | None) -> str:
    """A share as a percentage."""
    if share is None or not math.isfinite(share):
        return "\N{EN DASH}"
    return f"{signif(100 * share, 2 if share < 0.1 else 3)}\N{NO-BREAK SPACE}%"


@register.filter
def one_in(density: float) -> str:
    """``1 in 420``; empty for a feature that never fired or fires on most tokens."""
    if not 0 < density < 0.67:
        return ""
    every = 1 / density
    return f"1 in {every:,.0f}" if every >= 10 else f"1 in {every:.2g}"


@register.filter
def bound(n_tokens: int) -> float:
    """What a density is below, at 95 %, when nothing fired in so many tokens: the rule of three."""
    return 3 / n_tokens if n_tokens else 1.0


@register.filter
def words(key: str) -> str:
    """``weights_digest`` as ``weights digest``."""
    return key.replace("_", " ")


@register.filter
def pairs(record: Any) -> list[tuple[str, Any]]:
    """What a JSON object holds, without lists of more than a line: those are data, not facts."""
    if not isinstance(record, dict):
        return []
    return [(str(key), value) for key, value in record.items() if not (isinstance(value, list) and len(value) > 12)]


@register.filter
def is_record(value: Any) -> bool:
    return isinstance(value, dict)


@register.filter
def is_real(value: Any) -> bool:
    return isinstance(value, float)


@register.filter
def is_digest(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{40,64}", value) is not None


@register.filter
def to_text(value: Any) -> str:
    """A value of a JSON record, as text of a bounded length."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 500 else text[:499] + "…"


@register.filter
def without_git(provenance: dict[str, Any]) -> dict[str, Any]:
    """What is left to say of a provenance beside its commit."""
    return {key: value for key, value in provenance.items() if key not in {"commit", "dirty"}}


@register.filter
def held(label: Label) -> int:
    """On how many of its held-out examples a label's rule holds."""
    return round((label.precision or 0.0) * (label.n_held_out or 0))
