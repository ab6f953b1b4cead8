"""A link opens what it was made for, to whoever has the whole of its address, and to nobody by any other."""

import re
import string
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from features.knowledge.rules import Refused
from features.models import LinkView, Role, ShareLink, Snapshot
from features.models.access import digest_of
from features.sharing import links
from tests.factories import World, make_user
from tests.features.sharing.helpers import (
    BROWSER,
    SECRET,
    frozen_feature,
    headers,
    kept,
    shared,
    signed_in,
    stored,
    visitor,
)

NEVER = "A" * 32
"""Of the form of a token, and none."""


NEAR: list[Callable[[str], str]] = [
    str.swapcase,
    lambda token: token[:-1],
    lambda token: token + "A",
    lambda token: token[:-1] + ("A" if token[-1] != "A" else "B"),
    lambda token: ("A" if token[0] != "A" else "B") + token[1:],
    lambda token: token + "%20",
    lambda token: "%20" + token,
    lambda token: token + "%0A",
    lambda token: token + "%00",
    lambda token: token + "%2F",
    lambda token: token + "/",
    lambda token: "/" + token,
    lambda token: token + "/.",
    lambda token: token + "//evidence.zip",
    lambda token: token + ";a=b",
    lambda token: token + "%E2%80%8B",  # a space without width
    lambda token: "".join(f"%25{ord(c):02X}" for c in token),  # encoded twice
    lambda token: quote("".join(chr(ord(c) + 0xFEE0) for c in token)),  # letters as wide as Chinese ones
    digest_of,
    lambda token: token[:8],
]


@pytest.fixture
def snapshot(world: World) -> Snapshot:
    return frozen_feature(world)


def test_a_token_has_192_random_bits(world: World, snapshot: Snapshot) -> None:
    tokens = [links.issue(snapshot, world.user)[1] for _ in range(300)]
    assert {len(token) for token in tokens} == {32}
    assert {c for token in tokens for c in token} == set(string.ascii_letters + string.digits + "-_")
    assert len(set(tokens)) == 300
    # 64 letters of 6 bits each: in every place, all sorts of them
    assert all(len({token[place] for token in tokens}) > 40 for place in range(32))


def test_only_the_hash_of_a_token_is_stored(world: World, snapshot: Snapshot) -> None:
    link, token = links.issue(snapshot, world.user, password=SECRET, note="for Grace")
    visitor().get(f"/s/{token}")
    visitor().post(f"/s/{token}", {"password": "wrong, wrong"})
    assert link.token_digest == digest_of(token)
    held = stored()
    assert link.token_digest in held
    assert token not in held
    assert SECRET not in held


@pytest.mark.parametrize("change", NEAR)
def test_what_is_almost_a_token_opens_nothing(change: Callable[[str], str], world: World) -> None:
    _, address = shared(world)
    before = kept()
    for end in ("", "/evidence.zip"):
        answer = visitor().get(f"/s/{change(address.removeprefix('/s/'))}{end}")
        assert answer.status_code == 404
        assert b"opens nothing" in answer.content or b"nothing at this address" in answer.content
    assert kept() == before
    assert visitor().get(address).status_code == 200


def test_the_percent_codes_of_a_token_are_that_token(world: World) -> None:
    """The same address by the rules of addresses: nothing is won or lost."""
    _, address = shared(world)
    assert visitor().get("/s/" + "".join(f"%{ord(c):02X}" for c in address[3:])).status_code == 200


def expired(link: ShareLink) -> None:
    ShareLink.objects.filter(pk=link.pk).update(expires_at=timezone.now())


def revoked(link: ShareLink) -> None:
    assert links.revoke(link, link.by)


def _ask(address: str, method: str) -> tuple[int, bytes, dict[str, str], list[str]]:
    """All that can be learned from an answer, and what it took."""
    with CaptureQueriesContext(
        connection,
    ) as taken:
        answer = visitor(raise_request_exception=False).generic(
            method, address, f"password={quote(SECRET)}", content_type="application/x-www-form-urlencoded"
        )
    shapes = [re.sub(r"'[^']*'|\b\d+\b", "?", query["sql"]) for query in taken.captured_queries]
    return answer.status_code, answer.getvalue(), headers(answer), shapes


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
@pytest.mark.parametrize("end", ["", "/evidence.zip"])
def test_expired_revoked_and_unknown_are_one_answer(method: str, end: str, world: World) -> None:
    """One query by one hash that finds no row: the same in every byte, and with nothing that could take longer."""
    gone = []
    for lost in (expired, revoked):
        for password in ("", SECRET):
            link, address = shared(world, password=password, preview=True)
            lost(link)
            gone.append(address)
    answers = [_ask(address + end, method) for address in (*gone, f"/s/{NEVER}", "/s/:key", "/s/" + "x" * 5000)]
    assert all(answer == answers[0] for answer in answers)
    status, _, said, queries = answers[0]
    assert status == (404 if method in {"GET", "HEAD", "POST"} else 405)
    assert len(queries) == (1 if status == 404 else 0)
    assert "Set-Cookie" not in said
    assert "no-store" in said["Cache-Control"]
    assert not LinkView.objects.exists()


def test_a_link_that_ends_in_a_moment_opens_until_then(world: World) -> None:
    link, address = shared(world)
    ShareLink.objects.filter(pk=link.pk).update(expires_at=timezone.now() + timedelta(seconds=30))
    assert visitor().get(address).status_code == 200
    expired(link)
    assert visitor().get(address).status_code == 404


@pytest.mark.parametrize("days", [0, -1, 366, 10**9])
def test_no_link_is_for_ever(days: int, world: World, snapshot: Snapshot) -> None:
    with pytest.raises(Refused, match="365 days"):
        links.issue(snapshot, world.user, days=days)
    assert not ShareLink.objects.exists()


def test_the_register_shows_ones_own_links_and_an_administrator_all(world: World) -> None:
    shared(world, note="note of ada")
    grace = make_user("grace")
    links.issue(frozen_feature(world), grace, note="note of grace")
    boss = make_user("boss", role=Role.ADMINISTRATOR)
    for user, notes in ((world.user, {"ada"}), (grace, {"grace"}), (boss, {"ada", "grace"})):
        page = signed_in(user).get("/links/").content.decode()
        assert {name for name in ("ada", "grace") if f"note of {name}" in page} == notes


def test_whoever_became_a_viewer_takes_back_no_more_links(world: World) -> None:
    link, _ = shared(world)
    gone = make_user("gone", role=Role.VIEWER)
    ShareLink.objects.filter(pk=link.pk).update(by=gone)
    page = signed_in(gone).get(link.snapshot.get_absolute_url()).content.decode()
    assert "Take back" not in page
    assert signed_in(gone).post(f"/links/{link.pk}/revoke/").status_code == 403
    assert not ShareLink.objects.visible_to(gone).exists()


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RESEARCHER, Role.REVIEWER])
def test_nobody_else_sees_or_takes_back_a_link(role: Role, world: World) -> None:
    link, address = shared(world)
    client = signed_in(make_user("other", role=role))
    before = kept()
    for path in (f"/links/{link.pk}/", f"/links/{link.pk}/revoke/"):
        for method in ("get", "post"):
            assert getattr(client, method)(path).status_code in {403, 404, 405}
    assert kept() == before
    assert visitor().get(address).status_code == 200


def test_whoever_made_a_link_and_administrators_take_it_back(world: World) -> None:
    for user in (world.user, make_user("boss", role=Role.ADMINISTRATOR)):
        link, address = shared(world)
        assert signed_in(user).post(f"/links/{link.pk}/revoke/").status_code == 302
        link.refresh_from_db()
        assert (link.state, link.revoked_by) == ("revoked", user.username)
        assert visitor().get(address).status_code == 404


def test_taking_back_twice_keeps_the_first_time(world: World) -> None:
    link, _ = shared(world)
    assert links.revoke(link, world.user)
    link.refresh_from_db()
    first = link.revoked_at
    assert not links.revoke(link, make_user("boss", role=Role.ADMINISTRATOR))
    link.refresh_from_db()
    assert (link.revoked_at, link.revoked_by) == (first, world.user.username)


def test_a_view_says_when_from_where_with_what_and_who(world: World) -> None:
    link, address = shared(world)
    began = timezone.now()
    visitor().get(address, REMOTE_ADDR="2001:db8::7")
    grace = make_user("grace")
    signed_in(grace).get(address)
    newest, first = link.views.all()
    assert began <= first.at <= newest.at <= timezone.now()
    assert (first.address, first.agent, first.who, first.robot) == ("2001:db8::7", BROWSER, "", False)
    assert (newest.who, newest.address) == ("grace", "127.0.0.1")


def test_an_agent_is_cut_and_shows_its_control_characters(world: World) -> None:
    link, address = shared(world)
    Client().get(address, headers={"user-agent": "Mozilla/5.0 \x00\x1b[31m\r\n\x85" + "x" * 5000})
    (view,) = link.views.all()
    assert len(view.agent) == 300
    assert view.agent.startswith("Mozilla/5.0 \ufffd\ufffd[31m\ufffd\ufffd\ufffdxx")


def test_head_and_what_was_refused_are_no_views(world: World) -> None:
    link, address = shared(world, password=SECRET)
    for client in (visitor(), Client(headers={"user-agent": "Slackbot"})):
        assert client.head(address).status_code == 200
    visitor().get(address)
    visitor().post(address, {"password": "wrong, wrong"})
    visitor().get(f"{address}/evidence.zip")
    assert not link.views.exists()
    assert visitor().post(address, {"password": SECRET}).status_code == 200
    assert link.views.count() == 1


def test_an_archive_that_was_fetched_is_a_view(world: World) -> None:
    link, address = shared(world)
    assert visitor().get(f"{address}/evidence.zip").status_code == 200
    assert visitor().head(f"{address}/evidence.zip").status_code == 200
    assert link.views.count() == 1


@pytest.mark.parametrize(
    ("proxies", "forwarded", "address"),
    [
        (0, "203.0.113.9", "127.0.0.1"),
        (0, "", "127.0.0.1"),
        (1, "198.51.100.1", "198.51.100.1"),
        (1, "203.0.113.9, 198.51.100.1", "198.51.100.1"),
        (1, "203.0.113.9, 203.0.113.10,198.51.100.1", "198.51.100.1"),
        (1, "", "127.0.0.1"),
        (2, "203.0.113.9, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        (2, "10.0.0.2", "127.0.0.1"),
        (1, "x" * 500, "x" * 45),
        (1, "198.51.100.1, \x00\n<b>", "\ufffd\ufffd<b>"),
    ],
)
def test_the_address_is_what_our_own_proxies_wrote(
    proxies: int, forwarded: str, address: str, world: World, settings: Any
) -> None:
    settings.PROXIES = proxies
    link, at = shared(world)
    visitor().get(at, headers={"x-forwarded-for": forwarded} if forwarded else {})
    assert link.views.get().address == address


def test_an_account_that_is_deleted_leaves_its_links_to_administrators(world: World) -> None:
    grace = make_user("grace")
    link, token = links.issue(frozen_feature(world), grace)
    User.objects.filter(pk=grace.pk).delete()
    assert visitor().get(f"/s/{token}").status_code == 200
    boss = signed_in(make_user("boss", role=Role.ADMINISTRATOR))
    assert b"grace" in boss.get("/links/").content
    assert boss.post(f"/links/{link.pk}/revoke/").status_code == 302
    assert visitor().get(f"/s/{token}").status_code == 404
