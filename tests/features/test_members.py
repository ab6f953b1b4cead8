"""Who has which role, the page that gives roles, and the command that does."""

import re
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client
from pytest_django.fixtures import Settings

from features.knowledge import collecting, members
from features.knowledge.rules import NotAllowed, Refused
from features.models import Member, Role
from features.roles import is_at_least, role_of
from tests import factories
from tests.factories import HOSTILE, OVERRIDE, World

URL = "/members/"


@pytest.fixture
def grace(db: None) -> User:
    return factories.make_user("grace", role=Role.ADMINISTRATOR)


@pytest.fixture
def as_grace(grace: User) -> Client:
    client = Client()
    client.force_login(grace)
    return client


def now(user: User) -> Role | None:
    return role_of(User.objects.select_related("member").get(pk=user.pk))


def post(client: Client, user: User, role: str, **more: Any) -> Any:
    return client.post(URL, {"user": user.pk, "role": role}, **more)


def run(*words: str) -> str:
    out = StringIO()
    call_command("role", *words, stdout=out)
    return out.getvalue()


def test_who_was_given_no_role_has_the_default_one(user: User, settings: Settings) -> None:
    assert role_of(user) == Role.RESEARCHER
    settings.DEFAULT_ROLE = "viewer"
    assert (role_of(user), is_at_least(user, Role.RESEARCHER)) == (Role.VIEWER, False)
    members.give(user, Role.REVIEWER)
    assert now(user) == Role.REVIEWER


def test_staff_and_superusers_are_administrators_and_who_left_is_nothing(db: None) -> None:
    assert role_of(factories.make_user("staff", is_staff=True)) == Role.ADMINISTRATOR
    assert role_of(factories.make_user("root", is_superuser=True)) == Role.ADMINISTRATOR
    assert role_of(factories.make_user("left", is_superuser=True, is_active=False)) is None


def test_a_page_asks_for_the_role_along_with_the_user(
    world: World, client_in: Client, django_assert_num_queries: Any
) -> None:
    members.give(world.user, Role.VIEWER)
    with django_assert_num_queries(4):  # session, user, own collections, others
        assert client_in.get("/collections/").status_code == 200


def test_who_became_a_viewer_changes_no_more_what_was_theirs(world: World, client_in: Client) -> None:
    own = collecting.create(world.user, "Mine")
    address = own.get_absolute_url()
    assert "Name and sharing" in client_in.get(address).content.decode()
    members.give(world.user, Role.VIEWER)
    seen = client_in.get(address)
    assert (seen.status_code, "Name and sharing" in seen.content.decode()) == (200, False)
    world.user.refresh_from_db()
    with pytest.raises(NotAllowed):
        collecting.edit(own, world.user, name="Other", description="", shared=True)


def test_a_viewer_keeps_the_star_alone(world: World, client_in: Client) -> None:
    members.give(world.user, Role.VIEWER)
    page = client_in.get("/saes/tiny-lm-l6/features/7/").content.decode()
    assert 'id="star"' in page
    for gone in ('id="label-open"', 'id="tag-open"', 'id="collect-open"', 'id="try-text"', "Add an SAE"):
        assert gone not in page
    starred = client_in.post("/saes/tiny-lm-l6/features/7/star/", {"on": "1"}, headers={"HX-Request": "true"})
    assert "Starred: only you see it." in starred.content.decode()
    assert "Undo" not in starred.content.decode()
    table = client_in.get("/saes/tiny-lm-l6/features/").content.decode()
    assert 'id="selection"' not in table
    assert 'type="checkbox" form="selection"' not in table
    assert 'class="pick"' not in table


def test_an_administrator_gives_a_role(user: User, as_grace: Client) -> None:
    answer = post(as_grace, user, "reviewer", follow=True)
    assert "outsider has the role reviewer now." in answer.content.decode()
    assert now(user) == Role.REVIEWER
    assert re.search(r'Role of outsider"><option>viewer</option>.*<option selected>reviewer', answer.content.decode())
    assert post(as_grace, user, "viewer").status_code == 302
    assert Member.objects.get(user=user).role == Role.VIEWER


def test_djangos_flag_goes_with_the_role(user: User, as_grace: Client) -> None:
    post(as_grace, user, "administrator")
    user.refresh_from_db()
    assert (user.is_staff, now(user)) == (True, Role.ADMINISTRATOR)
    User.objects.filter(pk=user.pk).update(is_superuser=True)
    post(as_grace, user, "researcher")
    user.refresh_from_db()
    assert (user.is_staff, user.is_superuser, now(user)) == (False, False, Role.RESEARCHER)


def test_the_last_administrator_stays_one(grace: User, user: User, as_grace: Client) -> None:
    factories.make_user("left", is_staff=True, is_active=False)
    answer = post(as_grace, grace, "viewer")
    assert (answer.status_code, members.LAST in answer.content.decode()) == (422, True)
    assert now(grace) == Role.ADMINISTRATOR
    post(as_grace, user, "administrator")
    left = post(as_grace, grace, "viewer")
    assert (left.status_code, left["Location"], now(grace)) == (302, "/", Role.VIEWER)
    assert as_grace.get(URL).status_code == 403
    with pytest.raises(Refused):
        members.give(user, Role.VIEWER)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"user": "", "role": "viewer"},
        {"user": "99999", "role": "viewer"},
        {"user": "9" * 30, "role": "viewer"},
        {"user": "\x00", "role": "viewer"},
        {"user": "-1", "role": "viewer"},
    ],
)
def test_who_is_not_there_gets_no_role(as_grace: Client, form: dict[str, str]) -> None:
    answer = as_grace.post(URL, form)
    assert (answer.status_code, "Nobody with this number" in answer.content.decode()) == (422, True)


@pytest.mark.parametrize("role", ["", "owner", "ADMINISTRATORS", "4", "\x00", HOSTILE])
def test_what_is_no_role_is_not_given(as_grace: Client, user: User, role: str) -> None:
    answer = post(as_grace, user, role)
    assert answer.status_code == 422
    assert "Choose a role: viewer, researcher, reviewer, administrator." in answer.content.decode()
    assert not Member.objects.filter(user=user).exists()


def test_a_hostile_name_is_shown_as_text(as_grace: Client) -> None:
    hostile = User.objects.create(username=HOSTILE + OVERRIDE)
    pages = [as_grace.get(URL), post(as_grace, hostile, "viewer", follow=True)]
    for page in pages:
        assert HOSTILE not in page.content.decode()
        assert OVERRIDE not in page.content.decode()
        assert "&lt;script&gt;alert(1)&lt;/script&gt;⟨U+202E⟩" in page.content.decode()


def test_many_members_come_by_pages(as_grace: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.views.members.SHOWN", 2)
    for name in ("a", "b&c", "d"):
        User.objects.create(username=name)
    User.objects.create(username="e", is_active=False)
    first = as_grace.get(URL).content.decode()
    assert "<bdi>a</bdi>" in first
    assert 'href="?after=b%26c"' in first
    second = as_grace.get(f"{URL}?after=b%26c").content.decode()
    assert "<bdi>d</bdi>" in second
    assert "<bdi>grace</bdi>" in second
    assert "Next" not in second
    assert "Nobody behind this" in as_grace.get(f"{URL}?after=zz%00").content.decode()


def test_only_administrators_find_the_page(as_grace: Client, user: User, client: Client) -> None:
    assert 'href="/members/"' in as_grace.get("/").content.decode()
    client.force_login(user)
    assert 'href="/members/"' not in client.get("/").content.decode()
    refused = client.get(URL)
    assert refused.status_code == 403
    assert "This needs the role “administrator”: ask an administrator of this site for it." in refused.content.decode()


def test_the_command_gives_a_role(user: User) -> None:
    assert run("outsider", "administrator") == "outsider has the role administrator now.\n"
    user.refresh_from_db()
    assert (user.is_staff, now(user)) == (True, Role.ADMINISTRATOR)
    with pytest.raises(CommandError, match="The last administrator stays one"):
        run("outsider", "viewer")


def test_the_command_makes_somebody_and_prints_a_way_in(db: None, client: Client) -> None:
    with pytest.raises(CommandError, match="There is nobody called new: add --create"):
        run("new", "viewer")
    said = run("new", "viewer", "--create")
    address = re.findall(r"/login/\S+/", said)
    made = User.objects.get(username="new")
    assert (len(address), now(made), made.has_usable_password()) == (1, Role.VIEWER, False)
    assert client.get(address[0])["Location"] == "/"
    assert client.get("/").status_code == 200
    assert "/login/" not in run("new", "reviewer", "--create")


@pytest.mark.parametrize("name", ["", "two words", HOSTILE, "x" * 151])
def test_the_command_makes_nobody_with_a_name_that_cannot_be(db: None, name: str) -> None:
    with pytest.raises(CommandError):
        run(name, "viewer", "--create")
    assert not User.objects.exists()


def test_the_command_knows_four_roles(user: User) -> None:
    with pytest.raises(CommandError, match="invalid choice: 'owner'"):
        run("outsider", "owner")
