"""Filters of the fragments on what people say."""

from dataclasses import dataclass

from django import template
from django.contrib.messages.storage.base import Message
from django.http import HttpRequest

from features.knowledge import rules
from features.templatetags.reading import visible

register = template.Library()
MOST_ADDRESS = 2000
register.filter("may_delete", rules.may_delete_comment)


@register.filter
def place(here: str | HttpRequest) -> str:
    """The address of a page, for a form on it to come back to: without its query where that is very long."""
    if isinstance(here, str):
        return here
    address = here.get_full_path()
    return address if len(address) <= MOST_ADDRESS else here.path


@register.filter
def lines(text: str) -> str:
    """``text`` with its line breaks, and whatever else cannot be seen named."""
    return "\n".join(visible(row) for row in text.split("\n"))


@dataclass(frozen=True)
class UndoOf:
    what: str
    redoes: bool


@register.filter
def undo_of(message: Message) -> UndoOf | None:
    """What a message's button undoes, as ``views.answers`` put it beside the message."""
    name, colon, what = (message.extra_tags or "").partition(":")
    return UndoOf(what, name == "redo") if colon and name in {"undo", "redo"} else None
