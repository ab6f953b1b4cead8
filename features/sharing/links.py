"""Links: made, found by their token, revoked, looked at, and what stands between a link's password and whoever guesses.

A token has 192 random bits and is stored as its sha256 alone: finding one is a look-up by that hash, which says nothing
of how near a guess was. Unknown, expired and revoked are one answer because they are one query that finds no row.
"""

import re
import secrets
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import check_password, make_password
from django.core import signing
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from features.evidence import NotFound
from features.knowledge.rules import Refused, line
from features.models import LinkView, ShareLink, Snapshot, WrongPassword
from features.models.access import digest_of

DAYS, MOST_DAYS = 14, 365
MIN_PASSWORD, MAX_PASSWORD = 8, 200
TOKEN = re.compile("[A-Za-z0-9_-]{32}")

# Wrong passwords in so long: of one address, which then waits, and of all together, for guesses from many.
WINDOW = timedelta(minutes=15)
TRIES_OF_ADDRESS, TRIES_OF_ALL = 5, 50
UNLOCKED = timedelta(hours=12)
"""How long a browser that gave the password need not give it again."""

_ROBOTS = re.compile(
    "bot|crawl|spider|preview|slurp|facebookexternalhit|whatsapp|slack|telegram|discord|embedly|skype|teams|mattermost"
    "|signal|linkedin|pinterest|outlook|safelinks|proofpoint|barracuda|mimecast|lighthouse|mastodon|iframely"
    "|viber|kakao|snapchat|vkshare|pagerenderer",
    re.IGNORECASE,
)

_PURPOSES = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")


class TooManyTries(Exception):
    """The password may be tried again later."""

    seconds = int(WINDOW.total_seconds())


def issue(
    snapshot: Snapshot,
    user: Any,
    *,
    days: int = DAYS,
    password: str = "",
    preview: bool = False,
    note: str = "",
) -> tuple[ShareLink, str]:
    """A new link and its token, which is shown once and stored only as a hash. Raises Refused."""
    if not 1 <= days <= MOST_DAYS:
        raise Refused(f"A link ends after 1 to {MOST_DAYS} days.")
    if password and not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise Refused(f"A password has {MIN_PASSWORD} to {MAX_PASSWORD} characters; leave it empty for none.")
    token = secrets.token_urlsafe(24)
    link = ShareLink.objects.create(
        snapshot=snapshot,
        token_digest=digest_of(token),
        password=make_password(password) if password else "",
        preview=preview,
        note=line(note, 200, "note") if note.strip() else "",
        by=user,
        by_name=user.get_username(),
        expires_at=timezone.now() + timedelta(days=days),
    )
    return link, token


def find(token: str) -> ShareLink | None:
    """The link that is alive and has this token, with its snapshot: one query whatever is asked for."""
    named = token if TOKEN.fullmatch(token) else ""
    return ShareLink.objects.alive().filter(token_digest=digest_of(named)).select_related("snapshot").first()


def find_own(pk: int, user: Any) -> ShareLink:
    """To revoke it, or to see who looked. Somebody else's is not found, like none at all."""
    visible = ShareLink.objects.visible_to(user).with_views()
    link = visible.filter(pk=pk).first() if 0 <= pk < 2**63 else None
    if link is None:
        raise NotFound("There is no link of yours with this number.")
    return link


def revoke(link: ShareLink, user: Any) -> bool:
    """False if it was revoked before."""
    alive = ShareLink.objects.filter(pk=link.pk, revoked_at=None)
    return bool(alive.update(revoked_at=timezone.now(), revoked_by=user.get_username()))


def log_view(link: ShareLink, request: HttpRequest, *, is_person: bool = False) -> None:
    """``is_person``: whoever asked has pressed a button, whatever their program calls itself."""
    LinkView.objects.create(
        link=link,
        address=address_of(request),
        agent=_printable(request.headers.get("User-Agent", ""), 300),
        who=request.user.get_username()[:150] if request.user.is_authenticated else "",
        robot=not is_person and is_robot(request),
    )


def is_robot(request: HttpRequest) -> bool:
    """A program that fetches addresses out of messages to show what they are, or a browser that fetches ahead."""
    ahead = " ".join(request.headers.get(name, "") for name in _PURPOSES).lower()
    agent = request.headers.get("User-Agent", "")
    return "prefetch" in ahead or "preview" in ahead or not agent or _ROBOTS.search(agent) is not None


def address_of(request: HttpRequest) -> str:
    """Of whoever asks. Behind PROXIES of our own, what the outermost of them wrote: no header is trusted further."""
    chain = [part.strip() for part in request.headers.get("X-Forwarded-For", "").split(",")]
    n = settings.PROXIES
    named = chain[-n] if 0 < n <= len(chain) else ""
    return _printable(named or request.META.get("REMOTE_ADDR", ""), 45)


def _printable(text: str, most: int) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[:most])


def is_open_to(link: ShareLink, request: HttpRequest) -> bool:
    """It has no password, or this browser gave it."""
    if not link.password:
        return True
    try:
        said = signing.loads(request.COOKIES.get(_cookie(link), ""), salt="featurescope.link", max_age=UNLOCKED)
    except signing.BadSignature:
        return False
    return isinstance(said, str) and constant_time_compare(said, _proof(link))


def try_password(link: ShareLink, password: str, request: HttpRequest) -> bool:
    """Every try is written down before it is looked at, so that many at once are counted. Raises TooManyTries."""
    address, since = address_of(request), timezone.now() - WINDOW
    with transaction.atomic():
        WrongPassword.objects.filter(link=link, at__lte=since).delete()
        mine = WrongPassword.objects.create(link=link, address=address)
    recent = WrongPassword.objects.filter(link=link, at__gt=since)
    if recent.filter(address=address).count() > TRIES_OF_ADDRESS or recent.count() > TRIES_OF_ALL:
        mine.delete()
        raise TooManyTries
    if not check_password(password[: MAX_PASSWORD + 1], link.password):
        return False
    mine.delete()
    return True


def unlock(link: ShareLink, request: HttpRequest, response: Any) -> None:
    """Let this browser in for a while, at this link alone."""
    response.set_cookie(
        _cookie(link),
        signing.dumps(_proof(link), salt="featurescope.link"),
        max_age=UNLOCKED,
        path=request.path,
        secure=request.is_secure(),
        httponly=True,
        samesite="Strict",
    )


def _cookie(link: ShareLink) -> str:
    return f"link{link.pk}"


def _proof(link: ShareLink) -> str:
    """Changes with the password, and says nothing of it."""
    return digest_of(f"{link.pk}:{link.password}")
