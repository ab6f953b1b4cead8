"""Ways in that are not a password: API keys, and the one-time address that a local launch prints."""

import hashlib
import secrets
from datetime import timedelta
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.utils import timezone


def digest_of(secret: str) -> str:
    """Secrets of 128 random bits and more need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def issue(self, user: Any, name: str) -> tuple["ApiKey", str]:
        """A new key and its secret, which is shown once and stored only as a hash."""
        secret = f"fs_{secrets.token_urlsafe(32)}"
        return self.create(user=user, name=name, prefix=secret[:8], digest=digest_of(secret)), secret

    def for_secret(self, secret: str) -> "ApiKey | None":
        found = self.filter(digest=digest_of(secret), revoked_at=None, user__is_active=True)
        return found.select_related("user__member").first()


class ApiKey(models.Model):
    """Lets a program act as the person who made it."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=80)
    prefix = models.CharField(max_length=8, help_text="the first letters, to tell keys apart")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    revoked_at = models.DateTimeField(null=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"


class LoginTokenQuerySet(models.QuerySet["LoginToken"]):
    def issue(self, user: Any, valid_for: timedelta = timedelta(hours=12)) -> str:
        secret = secrets.token_urlsafe(24)
        self.create(user=user, digest=digest_of(secret), expires_at=timezone.now() + valid_for)
        return secret

    def redeem(self, secret: str) -> Any:
        """The user, once: whoever comes second with the same token gets None."""
        token = self.usable().filter(digest=digest_of(secret)).select_related("user__member").first()
        if token is None or not self.usable().filter(pk=token.pk).update(used_at=timezone.now()):
            return None
        return token.user

    def usable(self) -> Self:
        return self.filter(used_at=None, expires_at__gt=timezone.now(), user__is_active=True)


class LoginToken(models.Model):
    """Signs its user in once, as Jupyter's address does."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, unique=True)
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)

    objects = LoginTokenQuerySet.as_manager()

    def __str__(self) -> str:
        return f"token for {self.user_id}"
