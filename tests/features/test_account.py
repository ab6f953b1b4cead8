"""Signing in and out, one-time addresses, keys."""

from datetime import timedelta

from django.contrib.auth.models import User
from django.test import Client

from features.models import ApiKey, LoginToken
from tests.factories import PASSWORD, World


def test_a_password_signs_in_and_the_button_signs_out(user: User, client: Client) -> None:
    wrong = client.post("/login/", {"username": "outsider", "password": "wrong"})
    assert b"do not belong together" in wrong.content
    assert b'value="outsider"' in wrong.content  # what was typed is not lost
    right = client.post("/login/?next=/jobs/", {"username": "outsider", "password": PASSWORD, "next": "/jobs/"})
    assert right["Location"] == "/jobs/"
    client.post("/logout/")
    assert client.get("/").status_code == 302


def test_signing_in_does_not_lead_to_other_sites(user: User, client: Client) -> None:
    form = {"username": "outsider", "password": PASSWORD, "next": "https://example.org/"}
    assert client.post("/login/", form)["Location"] == "/"


def test_a_one_time_address_works_once(user: User, client: Client) -> None:
    secret = LoginToken.objects.issue(user)
    assert client.get(f"/login/{secret}/")["Location"] == "/"
    assert client.get("/").status_code == 200
    second = Client().get(f"/login/{secret}/")
    assert second.status_code == 410
    assert b"make demo" in second.content
    assert "_auth_user_id" not in second.wsgi_request.session


def test_an_expired_address_does_not_sign_in(user: User, client: Client) -> None:
    secret = LoginToken.objects.issue(user, timedelta(seconds=-1))
    assert client.get(f"/login/{secret}/").status_code == 410
    assert client.get("/").status_code == 302


def test_a_key_is_shown_once(user: User, client: Client) -> None:
    client.force_login(user)
    made = client.post("/account/keys/", {"name": "<b>notebook</b>"})
    secret = made.context["secret"]
    assert ApiKey.objects.for_secret(secret) is not None
    assert secret in made.content.decode()
    assert "no-store" in made["Cache-Control"]
    again = client.get("/account/keys/").content.decode()
    assert secret not in again
    assert "&lt;b&gt;notebook" in again


def test_a_key_needs_a_name(user: User, client: Client) -> None:
    client.force_login(user)
    assert b"This field is required" in client.post("/account/keys/", {"name": " "}).content
    assert not ApiKey.objects.exists()


def test_a_revoked_key_is_refused(user: User, client: Client) -> None:
    client.force_login(user)
    key, secret = ApiKey.objects.issue(user, "old")
    assert b"is revoked" in client.post(f"/account/keys/{key.pk}/revoke/", follow=True).content
    assert ApiKey.objects.for_secret(secret) is None


def test_others_keys_are_not_listed(user: User, world: World, client_in: Client) -> None:
    ApiKey.objects.issue(user, "the outsider's key")
    assert b"the outsider" not in client_in.get("/account/keys/").content
