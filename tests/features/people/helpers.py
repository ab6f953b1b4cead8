"""What the tests of these pages share."""

import html
import re

HTMX = {"HX-Request": "true"}


def token_in(page: str) -> str:
    """What the last Undo of a page carries."""
    found: list[str] = re.findall(r'name="what" value="([^"]+)"', page)
    return html.unescape(found[-1])
