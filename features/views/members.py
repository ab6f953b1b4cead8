"""Who may do what here, for administrators to see and to change."""

from typing import Any

from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from features.knowledge.members import give, role_named
from features.knowledge.rules import Refused
from features.models.member import Role
from features.roles import role_of
from features.templatetags.reading import visible
from features.views.answers import here

SHOWN = 200
"""How many people a page lists."""


@require_http_methods(["GET", "POST"])
def members(request: HttpRequest) -> HttpResponse:
    """Whoever may sign in, by name. A POST gives one of them another role."""
    if request.method != "POST":
        return _list(request)
    try:
        user, role = _user(request.POST.get("user", "")), role_named(request.POST.get("role", ""))
        give(user, role)
    except Refused as error:
        return _list(request, str(error), 422)
    messages.success(request, f"{visible(user.get_username())} has the role {role.label} now.")
    if user == request.user and role < Role.ADMINISTRATOR:
        return redirect("home")  # this page is theirs no more
    return redirect(here(request, request.path))


def _user(pk: str) -> User:
    found = User.objects.filter(pk=pk, is_active=True).first() if pk.isdecimal() and len(pk) < 10 else None
    if found is None:
        raise Refused("Nobody with this number may sign in here any more: load the page again.")
    return found


def _list(request: HttpRequest, fault: str = "", status: int = 200) -> HttpResponse:
    after = request.GET.get("after", "").replace("\0", "")
    active = User.objects.filter(is_active=True, username__gt=after).select_related("member").order_by("username")
    users = list(active[: SHOWN + 1])
    ctx: dict[str, Any] = {
        "members": [(user, role_of(user)) for user in users[:SHOWN]],
        "roles": list(Role),
        "next": users[SHOWN - 1].username if len(users) > SHOWN else "",
        "after": after,
        "fault": fault,
    }
    return render(request, "registration/members.html", ctx, status=status)
