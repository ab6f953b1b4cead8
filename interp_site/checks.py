"""What is set in a way that will hurt: each check says what to do about it."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from features.models.member import Role
from interp_site.local.redis import find_redis

DEFAULTS = [role.label for role in Role if role < Role.ADMINISTRATOR]


@register(Tags.security)
def hosts_are_served_safely(**kwargs: Any) -> list[CheckMessage]:
    others = sorted(set(settings.ALLOWED_HOSTS) - settings.LOCAL_HOSTS)
    if not others:
        return []
    found: list[CheckMessage] = []
    if settings.DEBUG:
        hint = "Unset DEBUG, or take the other hosts out of ALLOWED_HOSTS."
        found.append(Error(f"DEBUG shows code and settings to {', '.join(others)}.", hint=hint, id="interp_site.E002"))
    if not settings.SESSION_COOKIE_SECURE:
        hint = "Put a proxy that speaks TLS in front, and set HTTPS=1."
        found.append(Warning("Passwords and keys travel unencrypted.", hint=hint, id="interp_site.W001"))
    return found


@register(Tags.security)
def the_secret_key_is_ours_alone(**kwargs: Any) -> list[CheckMessage]:
    path = settings.VAR_DIR / "secret_key"
    if not path.exists() or not path.stat().st_mode & 0o077:
        return []
    return [
        Warning(
            f"{path} can be read by other users: they could sign in as anybody.",
            hint=f"Run `rm {path}`: a new key is made at the next start, and everybody signs in again.",
            id="interp_site.W002",
        )
    ]


@register()
def the_default_role_is_one(**kwargs: Any) -> list[CheckMessage]:
    if settings.DEFAULT_ROLE in DEFAULTS:
        return []
    hint = f"Set it to one of {', '.join(DEFAULTS)}; `python manage.py role` makes administrators, one by one."
    fault = f"DEFAULT_ROLE is {settings.DEFAULT_ROLE!r}, which is no role to give to everybody."
    return [Error(fault, hint=hint, id="interp_site.E005")]


@register()
def a_redis_is_installed(**kwargs: Any) -> list[CheckMessage]:
    if not settings.REDIS_IS_LOCAL or find_redis():
        return []
    return [
        Warning(
            "There is no redis-server on this machine, and REDIS_URL names no other: nothing can be queued.",
            hint="Run `make install`, or set REDIS_URL.",
            id="interp_site.W003",
        )
    ]


@register(Tags.security)
def the_hub_is_reached_safely(**kwargs: Any) -> list[CheckMessage]:
    if not settings.ALLOW_HUB or not settings.HUB_ENDPOINT:
        return []
    try:
        address = urlsplit(settings.HUB_ENDPOINT)
        named, secret = address.hostname or "", address.username or address.password
    except ValueError:
        address, named, secret = urlsplit(""), "", None
    if address.scheme not in {"http", "https"} or not named:
        hint = "Set it to an address such as https://hub.example.org, or unset it."
        return [Error("HF_ENDPOINT is no address of a hub.", hint=hint, id="interp_site.E004")]
    if secret:
        hint = "Take the name and password out of HF_ENDPOINT, and set HF_TOKEN to a token."
        return [Error("HF_ENDPOINT holds a password, which ends up in logs.", hint=hint, id="interp_site.E004")]
    if address.scheme == "http" and named not in {host.strip("[]") for host in settings.LOCAL_HOSTS}:
        hint = "Set HF_ENDPOINT to an address that begins with https://."
        return [Warning("Models and the token travel unencrypted.", hint=hint, id="interp_site.W004")]
    return []
