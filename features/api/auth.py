"""Who may use an operation: whoever is signed in or sends an API key, and has the role that the operation names.

Each operation says it itself: ``@router.post("/labels", auth=researcher, ...)``. One that says nothing is closed.
"""

from typing import Any

from django.http import HttpRequest
from ninja.security import APIKeyHeader, HttpBearer
from ninja.security import SessionAuth as AnySession

from features.knowledge.rules import NotAllowed, require_role
from features.models import ApiKey
from features.models.member import Role


class _AtLeast:
    """A way in for those who have a role. Who comes in without it is told so, and no other way in is tried."""

    def __init__(self, role: Role) -> None:
        self.role = role
        super().__init__()

    def _key_for(self, secret: str | None) -> ApiKey | None:
        key = ApiKey.objects.for_secret(secret) if secret else None
        if key is not None:
            require_role(key.user, self.role)
        return key


class KeyHeader(_AtLeast, APIKeyHeader):
    """``X-API-Key: fs_...``"""

    param_name = "X-API-Key"

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        return self._key_for(key)


class Bearer(_AtLeast, HttpBearer):
    """``Authorization: Bearer fs_...``"""

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        return self._key_for(token)


class SessionAuth(_AtLeast, AnySession):
    """The cookie of a browser that is signed in."""

    def __call__(self, request: HttpRequest) -> Any:
        # Whoever is not signed in is told to do so, before a form's token is asked for.
        return super().__call__(request) if request.user.is_authenticated else None

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        require_role(request.user, self.role)
        return request.user


def _ways_in(role: Role) -> list[_AtLeast]:
    return [KeyHeader(role), Bearer(role), SessionAuth(role)]


viewer = _ways_in(Role.VIEWER)
researcher = _ways_in(Role.RESEARCHER)
reviewer = _ways_in(Role.REVIEWER)
administrator = _ways_in(Role.ADMINISTRATOR)


def nobody(request: HttpRequest) -> None:
    """What an operation has that names no role: what was forgotten is closed, not open."""
    raise NotAllowed("This operation does not say who may use it, so nobody may: tell whoever runs this site.")
