"""Member: what somebody who signs in may do here."""

from django.conf import settings
from django.db import models


class Role(models.IntegerChoices):
    """In ascending order: each may all that the one before it may."""

    VIEWER = 1, "viewer"
    RESEARCHER = 2, "researcher"
    REVIEWER = 3, "reviewer"
    ADMINISTRATOR = 4, "administrator"


class Member(models.Model):
    """A user's role. Who has no row has the setting DEFAULT_ROLE; Django's staff and superusers are administrators."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="member")
    role = models.PositiveSmallIntegerField(choices=Role)

    def __str__(self) -> str:
        return f"{self.user_id}: {self.get_role_display()}"
