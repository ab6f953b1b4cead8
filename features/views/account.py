"""Ways in: a password, a one-time address, and keys for programs."""

from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from features.forms import KeyForm
from features.models import ApiKey, LoginToken


class SignIn(LoginView):
    redirect_authenticated_user = True


@never_cache
@require_http_methods(["GET"])
def login_token(request: HttpRequest, token: str) -> HttpResponse:
    """Sign in with the address that a launch printed. It works once."""
    user = LoginToken.objects.redeem(token)
    if user is None:
        return render(request, "registration/token_used.html", status=410)
    login(request, user)
    return redirect("home")


@never_cache
@require_http_methods(["GET", "POST"])
def keys(request: HttpRequest) -> HttpResponse:
    """One's own keys. A new key is shown in the answer to the form and nowhere else."""
    user, secret = _user(request), ""
    form = KeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        _, secret = ApiKey.objects.issue(user, form.cleaned_data["name"])
        form = KeyForm()
    return render(request, "registration/keys.html", {"form": form, "secret": secret, "keys": user.api_keys.all()})


@require_POST
def revoke_key(request: HttpRequest, pk: int) -> HttpResponse:
    key = get_object_or_404(ApiKey, user=_user(request), pk=pk)
    if ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now()):
        messages.success(request, f"The key “{key.name}” is revoked: programs that use it are refused from now on.")
    return redirect("keys")


def _user(request: HttpRequest) -> User:
    user = request.user
    assert isinstance(user, User)  # noqa: S101 - LoginRequiredMiddleware lets nobody else in
    return user
