"""Who may do what: four roles, each of which may all that the one before it may. Asked here and nowhere else."""

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest

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


def is_administrator(user: Any) -> bool:
    return is_at_least(user, Role.ADMINISTRATOR)


def may_change(user: Any, owner: int | None) -> bool:
    """Whether somebody may change what ``owner`` made: their own, unless they only look by now, or anybody's."""
    own = owner is not None and owner == user.pk
    return is_administrator(user) or (own and is_at_least(user, Role.RESEARCHER))


def refusal(role: Role) -> str:
    """What whoever lacks the role is told."""
    return f"This needs the role “{role.label}”: ask an administrator of this site for it."


@dataclass(frozen=True)
class May:
    """What templates ask before they show a form: no page offers what would be refused."""

    user: Any

    @property
    def write(self) -> bool:
        return self._is(Role.RESEARCHER)

    @property
    def review(self) -> bool:
        return self._is(Role.REVIEWER)

    @property
    def administer(self) -> bool:
        return self._is(Role.ADMINISTRATOR)

    def _is(self, role: Role) -> bool:
        return self.user is not None and is_at_least(self.user, role)


def for_templates(request: HttpRequest) -> dict[str, May]:
    """``{% if may.write %}``. A request that broke off early has no user."""
    return {"may": May(getattr(request, "user", None))}
