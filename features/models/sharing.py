"""Snapshot, and the links that lead to it.

A snapshot is named by the digest of its content, so its row never changes and nothing here deletes one. Who froze it,
when, and which one it took the place of stand beside it, one row each time: freezing the same thing twice adds a row,
not a snapshot. A link is a way in for people without an account; what it opens is fixed when it is made.
"""

import zlib
from datetime import datetime
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Count, Exists, Max, OuterRef, Q, Subquery
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone

from features.models.member import Role
from features.roles import is_at_least


class Kind(models.TextChoices):
    FEATURE = "feature", "feature"
    TEXT = "text", "tried text"
    COMPARISON = "comparison", "comparison"
    RUN = "run", "run's quality"
    COLLECTION = "collection", "collection"


class SnapshotQuerySet(models.QuerySet["Snapshot"]):
    def visible_to(self, user: Any) -> Self:
        """What was open to everybody when it was frozen, what one froze or brought oneself; reviewers see all."""
        if is_at_least(user, Role.REVIEWER):
            return self
        mine = Freezing.objects.filter(snapshot=OuterRef("pk"), by=user)
        brought = Received.objects.filter(snapshot=OuterRef("pk"), by=user)
        return self.filter(Q(open=True) | Exists(mine) | Exists(brought))


class Snapshot(models.Model):
    """``packed``: its canonical JSON, deflated; ``digest`` is the sha256 of that JSON as hex.

    ``open``: what it shows could be seen by everybody who signs in.
    """

    digest = models.CharField(max_length=64, unique=True)
    kind = models.CharField(max_length=12, choices=Kind)
    title = models.CharField(max_length=400)
    n_bytes = models.PositiveIntegerField(help_text="of the canonical JSON")
    packed = models.BinaryField()
    page = models.BinaryField(default=b"", help_text="what its page shows, drawn and deflated (features.sharing.drawn)")
    page_mark = models.CharField(max_length=64, blank=True)
    open = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = SnapshotQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["-created_at", "-id"])]

    def __str__(self) -> str:
        return f"snapshot {self.digest[:12]}"

    def get_absolute_url(self) -> str:
        return reverse("snapshot", args=[self.digest])

    @property
    def body(self) -> bytes:
        """The canonical JSON. Raises zlib.error where the row was damaged."""
        unpack = zlib.decompressobj()
        return unpack.decompress(bytes(self.packed), self.n_bytes + 1)


class Freezing(models.Model):
    """Somebody froze ``snapshot``. ``subject`` says of what, as ``feature tiny-lm-l6/85 run 3``: the newest freezing of
    a subject is what it looks like last, and ``supersedes`` is what it looked like before, if that was another one.
    """

    snapshot = models.ForeignKey(Snapshot, on_delete=models.PROTECT, related_name="freezings")
    subject = models.CharField(max_length=400)
    supersedes = models.ForeignKey(Snapshot, null=True, on_delete=models.PROTECT, related_name="superseded_by")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    by_name = models.CharField(max_length=150)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["pk"]
        indexes = [models.Index(fields=["subject", "-id"])]

    def __str__(self) -> str:
        return f"{self.subject} by {self.by_name}"


class Received(models.Model):
    """A signed archive from elsewhere, as it came: whose key signed it, who opened it here."""

    snapshot = models.ForeignKey(Snapshot, on_delete=models.PROTECT, related_name="received")
    archive = models.BinaryField()
    archive_digest = models.CharField(max_length=64, unique=True)
    fingerprint = models.CharField(max_length=64, help_text="sha256 of the public key that signed it")
    record = models.JSONField(help_text="what its manifest says of who froze it, when and where")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    by_name = models.CharField(max_length=150)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.snapshot_id} signed by {self.fingerprint[:12]}"


class ShareLinkQuerySet(models.QuerySet["ShareLink"]):
    def visible_to(self, user: Any) -> Self:
        """One's own, while one may make any; administrators see and revoke all."""
        if is_at_least(user, Role.ADMINISTRATOR):
            return self
        return self.filter(by=user) if is_at_least(user, Role.RESEARCHER) else self.none()

    def alive(self) -> Self:
        return self.filter(revoked_at=None, expires_at__gt=timezone.now())

    def with_views(self) -> Self:
        """``n_views``, without those of robots, and ``last_view``; with the snapshot, but not its content."""
        people = LinkView.objects.filter(link=OuterRef("pk"), robot=False).order_by().values("link")
        counted = people.annotate(n=Count("pk")).values("n")
        last = people.annotate(last=Max("at")).values("last")
        found = self.annotate(n_views=Coalesce(Subquery(counted), 0), last_view=Subquery(last))
        return found.select_related("snapshot").defer("snapshot__packed", "snapshot__page")


class ShareLink(models.Model):
    """``token_digest``: the sha256 of the token, which is in no row. ``password``: a slow, salted hash, or empty.

    ``preview``: chat programs that fetch the address may show what it is about.
    """

    snapshot = models.ForeignKey(Snapshot, on_delete=models.PROTECT, related_name="links")
    token_digest = models.CharField(max_length=64, unique=True)
    password = models.CharField(max_length=200, blank=True)
    preview = models.BooleanField(default=False)
    note = models.CharField(max_length=200, blank=True, help_text="whom it is for")
    by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    by_name = models.CharField(max_length=150)
    created_at = models.DateTimeField(auto_now_add=True)
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)
    revoked_by = models.CharField(max_length=150, blank=True)

    objects = ShareLinkQuerySet.as_manager()

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"link {self.pk}"

    @property
    def state(self) -> str:
        ended: datetime = self.expires_at
        if self.revoked_at:
            return "revoked"
        return "alive" if ended > timezone.now() else "expired"


class LinkView(models.Model):
    """Somebody opened a link. ``who``: the name of whoever was signed in. ``robot``: a preview, which shows nothing."""

    link = models.ForeignKey(ShareLink, on_delete=models.CASCADE, related_name="views")
    at = models.DateTimeField(default=timezone.now)
    address = models.CharField(max_length=45, blank=True)
    agent = models.CharField(max_length=300, blank=True)
    who = models.CharField(max_length=150, blank=True)
    robot = models.BooleanField(default=False)

    class Meta:
        ordering = ["-pk"]

    def __str__(self) -> str:
        return f"{self.link_id} at {self.at}"


class WrongPassword(models.Model):
    """A try at a link's password, kept while it counts."""

    link = models.ForeignKey(ShareLink, on_delete=models.CASCADE, related_name="tries")
    address = models.CharField(max_length=45)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["link", "at"])]

    def __str__(self) -> str:
        return f"{self.link_id} from {self.address}"
