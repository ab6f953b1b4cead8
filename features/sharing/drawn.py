"""What a snapshot's page shows, drawn once and kept in its row: a link opens at once, whoever opens it first.

A keyed hash binds what is kept to the snapshot, to what its row says of it, and to the code that drew it. Where that
does not fit, after an upgrade or by somebody's hand, nothing is taken from here: the page is drawn anew from the JSON.
"""

import hashlib
import hmac
import zlib
from functools import cache

from django.conf import settings
from django.utils.safestring import SafeString

from features.models import Snapshot

CODE = (("features", "*.py"), ("templates/features", "*.html"), ("templates/sharing", "*.html"))
MOST = 64 << 20  # bytes of one page


def find(snapshot: Snapshot) -> SafeString | None:
    """None if it was not drawn yet, or is not what was drawn here by this code."""
    if not snapshot.page:
        return None
    try:
        html = zlib.decompressobj().decompress(bytes(snapshot.page), MOST)
    except zlib.error:
        return None
    return SafeString(html.decode()) if hmac.compare_digest(_mark(snapshot, html), snapshot.page_mark) else None


def keep(snapshot: Snapshot, html: str) -> None:
    """One query."""
    raw = html.encode()
    drawn = {"page": zlib.compress(raw, 6), "page_mark": _mark(snapshot, raw)}
    Snapshot.objects.filter(pk=snapshot.pk).update(**drawn)


def _mark(snapshot: Snapshot, html: bytes) -> str:
    said = f"{_code()} {snapshot.digest} {snapshot.kind} {snapshot.n_bytes} {snapshot.title}\0"
    return hmac.new(settings.SECRET_KEY.encode(), said.encode() + html, hashlib.sha256).hexdigest()


@cache
def _code() -> str:
    """The digest of whatever may have a part in drawing."""
    found = hashlib.sha256()
    for folder, pattern in CODE:
        for path in sorted((settings.BASE_DIR / folder).rglob(pattern)):
            found.update(path.read_bytes())
    return found.hexdigest()
