"""Routes that say who may take them: a URLconf names the role beside the address, and nothing else lets anybody in.

``viewer("models/", model_list, name="models")`` is a path for whoever is at least a viewer. ``writes=`` names a higher
role for requests that change something. ``anyone(...)`` is for those who have not signed in.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, Protocol

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path

from features.knowledge.rules import NotAllowed, require_role
from features.models.member import Role

View = Callable[..., HttpResponseBase]
SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
UNDECLARED = "This address does not say who may open it, so nobody may: tell whoever runs this site."


@dataclass(frozen=True)
class Rule:
    """The roles that looking and changing take; None: nobody has to sign in."""

    reads: Role | None
    writes: Role | None

    def role_for(self, method: str | None) -> Role | None:
        return self.reads if method in SAFE else self.writes


ANYONE = Rule(None, None)


class Route(Protocol):
    def __call__(self, address: str, view: View, *, name: str, writes: Role | None = None) -> URLPattern: ...


def declare(view: View, rule: Rule) -> View:
    """Write the rule on the view itself, where the middlewares look for it."""
    view.rule = rule  # type: ignore[attr-defined]
    view.login_required = rule.reads is not None  # type: ignore[attr-defined]  # Django's name for it
    return view


def _guarded(view: View, rule: Rule) -> View:
    @wraps(view)
    def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        role = rule.role_for(request.method)
        if role is not None:
            require_role(request.user, role)
        return view(request, *args, **kwargs)

    return declare(guarded, rule)


def _at_least(role: Role) -> Route:
    def route(address: str, view: View, *, name: str, writes: Role | None = None) -> URLPattern:
        return path(address, _guarded(view, Rule(role, writes or role)), name=name)

    return route


viewer = _at_least(Role.VIEWER)
researcher = _at_least(Role.RESEARCHER)
reviewer = _at_least(Role.REVIEWER)
administrator = _at_least(Role.ADMINISTRATOR)


def anyone(address: str, view: View, *, name: str) -> URLPattern:
    return path(address, _guarded(view, ANYONE), name=name)


class OnlyDeclaredRoutes:
    """Refuses every view that was routed without a rule: what was forgotten is closed, not open."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_view(self, request: HttpRequest, view: View, args: Any, kwargs: Any) -> None:
        if not isinstance(getattr(view, "rule", None), Rule):
            raise NotAllowed(UNDECLARED)
