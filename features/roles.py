"""Who may do what: four roles, each of which may all that the one before it may. Asked here and nowhere else."""

from typing import Any

from django.conf import settings

from features.models.member import Role


def role_of(user: Any) -> Role | None:
    """The role of whoever is signed in; None for everybody else. No query: users are read with their membership."""
    if not user.is_authenticated or not user.is_active:
        return None
    if user.is_superuser or user.is_staff:
        return Role.ADMINISTRATOR
    member = getattr(user, "member", None)
    return Role(member.role) if member is not None else Role[settings.DEFAULT_ROLE.upper()]


def is_at_least(user: Any, role: Role) -> bool:
    mine = role_of(user)
    return mine is not None and mine >= role
