"""Who may read: whoever is signed in, and whoever sends an API key."""

from typing import Any

from django.http import HttpRequest
from ninja.security import APIKeyHeader, HttpBearer, SessionAuth

from features.models import ApiKey


def _key_for(secret: str | None) -> ApiKey | None:
    return ApiKey.objects.for_secret(secret) if secret else None


class KeyHeader(APIKeyHeader):
    """``X-API-Key: fs_...``"""

    param_name = "X-API-Key"

    def authenticate(self, request: HttpRequest, key: str | None) -> Any:
        return _key_for(key)


class Bearer(HttpBearer):
    """``Authorization: Bearer fs_...``"""

    def authenticate(self, request: HttpRequest, token: str) -> Any:
        return _key_for(token)


READERS = [KeyHeader(), Bearer(), SessionAuth()]
