"""Roles are given and taken here. A site is never left without an administrator."""

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Q, QuerySet

from features.knowledge.rules import Refused
from features.models.member import Member, Role

LAST = "The last administrator stays one: make somebody else an administrator first."


def role_named(text: str) -> Role:
    try:
        return Role[text.upper()]
    except KeyError:
        raise Refused(f"Choose a role: {', '.join(Role.labels)}.") from None


def administrators() -> QuerySet[User]:
    """``give`` keeps Django's own flag in step with the role, so that this asks one table."""
    return User.objects.filter(Q(is_staff=True) | Q(is_superuser=True), is_active=True)


@transaction.atomic
def give(user: User, role: Role) -> None:
    """Holds every administrator meanwhile: of two who make each other viewers at once, one is refused."""
    held = list(administrators().select_for_update().order_by("pk").values_list("pk", flat=True))
    if role < Role.ADMINISTRATOR and held == [user.pk]:
        raise Refused(LAST)
    Member.objects.update_or_create(user=user, defaults={"role": role})
    flags = {"is_staff": True} if role == Role.ADMINISTRATOR else {"is_staff": False, "is_superuser": False}
    User.objects.filter(pk=user.pk).update(**flags)
