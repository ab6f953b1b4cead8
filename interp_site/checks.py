"""What is set in a way that will hurt: each check says what to do about it."""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register

from interp_site.local.redis import find_redis

LOCAL_HOSTS = {"127.0.0.1", "localhost", "[::1]", "::1"}


@register(Tags.security)
def hosts_are_served_safely(**kwargs: Any) -> list[CheckMessage]:
    others = sorted(set(settings.ALLOWED_HOSTS) - LOCAL_HOSTS)
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
