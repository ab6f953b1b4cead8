"""What people may write, and who may change it: asked by pages and the API alike, and nowhere else."""

import re
import unicodedata
from typing import Any

from django.core.exceptions import PermissionDenied

from features import roles
from features.models import Collection, CollectionItem, Comment
from features.models.member import Role

MAX_LABEL = 200
MAX_TEXT = 4000
"""Of an explanation, a comment or a description."""
MAX_NOTE = 500
MAX_NAME = 120
MAX_TAG = 40
MAX_TAGS = 20
"""How many a feature bears."""

_WRITTEN = {"\u200c", "\u200d"}  # joiners: part of how scripts and emoji are written


class Refused(ValueError):
    """What was asked for cannot be done. The message says why, and what to do, to the person who asked."""


class NotAllowed(PermissionDenied):
    """Somebody else may do this. The message says who."""


def line(text: str, most: int, what: str) -> str:
    """``text`` on one line, single spaces between its words. Refused if it is empty, too long or cannot be shown."""
    cleaned = " ".join(text.split())
    if not cleaned:
        raise Refused(f"{_article(what)} needs at least one character.")
    return _checked(cleaned, most, what)


def prose(text: str, most: int, what: str) -> str:
    """``text`` with its line breaks, none at its ends; may be empty. Refused if it is too long or cannot be shown."""
    lines = [row.replace("\t", " ").rstrip() for row in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    return _checked("\n".join(lines).strip(), most, what)


def _checked(text: str, most: int, what: str) -> str:
    hidden = next((c for c in text if c != "\n" and c not in _WRITTEN and unicodedata.category(c) in _HIDDEN), None)
    if hidden is not None:
        raise Refused(f"{_article(what)} cannot hold the invisible character U+{ord(hidden):04X}; take it out.")
    if len(text) > most:
        raise Refused(f"{_article(what)} can have {most:,} characters; this has {len(text):,}.")
    return text


_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # Cs: half of a character, which no database stores


def _article(what: str) -> str:
    return f"{'An' if what[0] in 'aeiou' else 'A'} {what}"


def tag_names(text: str) -> list[str]:
    """The tags in a list with commas, each in its one form: lower case, its words joined by hyphens."""
    names = dict.fromkeys(tag_name(part) for part in text.split(",") if part.strip())
    if not names:
        raise Refused("Write a tag: one or more words; commas part several tags.")
    return list(names)


def tag_name(text: str) -> str:
    words = re.split(r"[\s_-]+", unicodedata.normalize("NFKC", text).lower().strip(" \t\n\r_-"))
    name = "-".join(words)
    wrong = next((c for c in name if not (c.isalnum() or c == "-" or unicodedata.category(c) in {"Mn", "Mc"})), None)
    if wrong is not None:
        shown = wrong if wrong.isprintable() else f"U+{ord(wrong):04X}"
        raise Refused(f"A tag is made of letters, digits and hyphens; “{shown}” is none of them.")
    if not name:
        raise Refused("Write a tag: one or more words; commas part several tags.")
    if len(name) > MAX_TAG:
        raise Refused(f"A tag can have {MAX_TAG} characters; “{name[:MAX_TAG]}…” has {len(name)}.")
    return name


def may_change(user: Any, collection: Collection) -> bool:
    """Rename, describe, share, put in order, delete."""
    return roles.may_change(user, collection.owner_id)


def may_change_item(user: Any, collection: Collection, item: CollectionItem) -> bool:
    """Take it out, or write its note: whoever may change the collection, and whoever put it there."""
    return may_change(user, collection) or roles.may_change(user, item.added_by_id)


def may_delete_comment(user: Any, comment: Comment) -> bool:
    return roles.may_change(user, comment.author_id)


def require(allowed: bool, sentence: str) -> None:
    if not allowed:
        raise NotAllowed(sentence)


def require_role(user: Any, role: Role) -> None:
    require(roles.is_at_least(user, role), roles.refusal(role))
