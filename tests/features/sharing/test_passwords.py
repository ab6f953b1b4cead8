"""A link with a password: what it stores, how often one may guess, and what a browser that knew it may do."""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.hashers import check_password, make_password
from django.core import signing
from django.db import connection
from django.test import Client, RequestFactory
from django.utils import timezone

from features.knowledge.rules import Refused
from features.models import ShareLink, WrongPassword
from features.sharing import links
from features.sharing.links import TRIES_OF_ADDRESS, TRIES_OF_ALL, WINDOW, TooManyTries
from tests.factories import World, make_world
from tests.features.people.test_races import at_once
from tests.features.sharing.helpers import SECRET, shared, stored, visitor

WRONG = "it never rains on mars"
TITLE = b"Feature 9"


@pytest.fixture
def locked(world: World) -> tuple[ShareLink, str]:
    return shared(world, password=SECRET)


def guess(address: str, password: str = WRONG, client: Client | None = None, **more: Any) -> int:
    return (client or visitor()).post(address, {"password": password}, **more).status_code


def wait(longer: timedelta = WINDOW) -> None:
    """Let the tries that are written down be so much older."""
    for row in WrongPassword.objects.all():
        WrongPassword.objects.filter(pk=row.pk).update(at=row.at - longer)


def test_the_form_shows_nothing_and_the_password_everything(locked: tuple[ShareLink, str]) -> None:
    _, address = locked
    asked = visitor().get(address)
    assert asked.status_code == 200
    assert TITLE not in asked.content
    assert b'type="password"' in asked.content
    wrong = visitor().post(address, {"password": WRONG})
    assert wrong.status_code == 403
    assert TITLE not in wrong.content
    right = visitor().post(address, {"password": SECRET})
    assert right.status_code == 200
    assert TITLE in right.content


@pytest.mark.parametrize(
    "password", ["", " ", SECRET.upper(), f"{SECRET} ", f" {SECRET}", SECRET[:-1], SECRET + "\0", "x" * 100_000]
)
def test_almost_the_password_is_not_the_password(password: str, locked: tuple[ShareLink, str]) -> None:
    answer = visitor().post(locked[1], {"password": password})
    assert answer.status_code == (403 if password else 200)
    assert TITLE not in answer.content


def test_the_longest_password_opens_and_a_longer_one_does_not(world: World) -> None:
    _, address = shared(world, password="p" * links.MAX_PASSWORD)
    assert guess(address, "p" * (links.MAX_PASSWORD + 1)) == 403
    assert guess(address, "p" * links.MAX_PASSWORD) == 200


@pytest.mark.parametrize("password", ["short", "x" * 201])
def test_a_password_that_is_too_short_or_too_long_makes_no_link(password: str, world: World) -> None:
    with pytest.raises(Refused, match="8 to 200 characters"):
        shared(world, password=password)
    assert not ShareLink.objects.exists()


def test_what_is_stored_is_slow_and_salted(world: World, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher"]
    first, second = (shared(world, password=SECRET)[0].password for _ in range(2))
    assert first != second
    algorithm, rounds, salt, _ = first.split("$")
    assert algorithm == "pbkdf2_sha256"
    assert int(rounds) >= 600_000
    assert len(salt) >= 16
    assert check_password(SECRET, first)


def test_a_password_is_in_no_row_no_answer_and_no_log(locked: tuple[ShareLink, str]) -> None:
    _, address = locked
    with logged() as lines:
        answers = [visitor().post(address, {"password": word}) for word in (WRONG, SECRET)]
        answers += [visitor().post(address, {"password": WRONG}) for _ in range(8)]
    assert {answer.status_code for answer in answers} == {200, 403, 429}
    for word in (WRONG, SECRET):
        assert word not in stored()
        assert word not in lines.getvalue()
        assert all(word not in f"{answer.content!r}{answer.headers}{answer.cookies}" for answer in answers)


def test_the_log_names_no_address_of_a_link(locked: tuple[ShareLink, str]) -> None:
    """Django writes down what it refuses, and whoever reads logs is nobody that the link was made for."""
    _, address = locked
    with logged() as lines:
        guess(address)
        visitor().put(address)
        visitor().get(f"{address}/evidence.zip")
        visitor().get(f"{address}/")
        visitor().get(f"/login/{address.removeprefix('/s/')}/?next=/")
    assert "/s/…" in lines.getvalue()
    assert address.removeprefix("/s/") not in lines.getvalue()


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """What the handlers of the settings would write, however little is worth saying."""
    lines, root = io.StringIO(), logging.getLogger()
    (handler,) = [each for each in root.handlers if type(each) is logging.StreamHandler]
    before, level = handler.setStream(lines), root.level
    root.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        root.setLevel(level)
        handler.setStream(before or handler.stream)


def test_an_address_waits_after_five_wrong_ones_even_with_the_right_one(locked: tuple[ShareLink, str]) -> None:
    _, address = locked
    assert [guess(address) for _ in range(TRIES_OF_ADDRESS + 2)] == [403] * TRIES_OF_ADDRESS + [429] * 2
    late = visitor().post(address, {"password": SECRET})
    assert late.status_code == 429
    assert late["Retry-After"] == str(int(WINDOW.total_seconds()))
    assert b"Wait 15 minutes" in late.content
    assert TITLE not in late.content
    assert guess(address, SECRET, REMOTE_ADDR="198.51.100.7") == 200


def test_whoever_waited_may_try_again(locked: tuple[ShareLink, str]) -> None:
    _, address = locked
    for _ in range(TRIES_OF_ADDRESS + 3):
        guess(address)
    wait(WINDOW - timedelta(minutes=1))
    assert guess(address, SECRET) == 429
    wait(timedelta(minutes=1, seconds=1))
    assert guess(address, SECRET) == 200
    assert not WrongPassword.objects.exists(), "what counts no more is not kept"


def test_refused_tries_do_not_make_the_wait_longer(locked: tuple[ShareLink, str]) -> None:
    _, address = locked
    for _ in range(TRIES_OF_ADDRESS):
        guess(address)
    wait(WINDOW - timedelta(minutes=1))
    assert [guess(address) for _ in range(20)] == [429] * 20
    assert WrongPassword.objects.count() == TRIES_OF_ADDRESS
    wait(timedelta(minutes=1, seconds=1))
    assert guess(address, SECRET) == 200


def test_the_right_one_is_no_wrong_one(locked: tuple[ShareLink, str]) -> None:
    _, address = locked
    assert [guess(address, SECRET) for _ in range(2 * TRIES_OF_ADDRESS)] == [200] * 2 * TRIES_OF_ADDRESS
    assert not WrongPassword.objects.exists()


def test_guesses_from_everywhere_are_counted_together(locked: tuple[ShareLink, str]) -> None:
    link, address = locked
    rows = [WrongPassword(link=link, address=f"198.51.100.{n}") for n in range(TRIES_OF_ALL)]
    WrongPassword.objects.bulk_create(rows)
    assert guess(address, SECRET, REMOTE_ADDR="203.0.113.1") == 429
    wait(WINDOW + timedelta(seconds=1))
    assert guess(address, SECRET, REMOTE_ADDR="203.0.113.1") == 200


def test_guesses_at_one_link_are_nothing_to_another(world: World, locked: tuple[ShareLink, str]) -> None:
    for _ in range(TRIES_OF_ADDRESS + 1):
        guess(locked[1])
    _, other = shared(world, password=SECRET)
    assert guess(other, SECRET) == 200


@pytest.mark.parametrize(("proxies", "allowed"), [(0, TRIES_OF_ADDRESS), (1, TRIES_OF_ADDRESS), (2, 12)])
def test_a_made_up_header_is_no_new_address(
    proxies: int, allowed: int, locked: tuple[ShareLink, str], settings: Any
) -> None:
    """Our proxy writes the last one. Two proxies where there is one: the wrong setting is what would let one in."""
    settings.PROXIES = proxies
    codes = [
        guess(
            locked[1],
            headers={"x-forwarded-for": f"203.0.113.{n}, {'198.51.100.9'}"}
            if proxies
            else {"x-forwarded-for": f"203.0.113.{n}"},
        )
        for n in range(12)
    ]
    assert codes.count(403) == allowed


def test_tries_that_overlap_are_all_counted(locked: tuple[ShareLink, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty that come while the first is still being compared: written down first, five of all are compared."""
    link, _ = locked
    outcomes: list[str] = []
    request = RequestFactory().post("/")

    def slow(password: str, stored: str) -> bool:
        if len(outcomes) + compared["n"] < 20:
            compared["n"] += 1
            outcomes.append(tried())
        return False

    def tried() -> str:
        try:
            return str(links.try_password(link, WRONG, request))
        except TooManyTries:
            return "wait"

    compared = {"n": 0}
    monkeypatch.setattr(links, "check_password", slow)
    outcomes.append(tried())
    assert compared["n"] == TRIES_OF_ADDRESS
    assert outcomes.count("False") == TRIES_OF_ADDRESS
    assert tried() == "wait"


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_tries_of_many_threads_are_all_counted() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite lets one write at a time")
    link, _ = shared(make_world(), password=SECRET)
    request = RequestFactory().post("/")

    def tried() -> object:
        try:
            return links.try_password(link, WRONG, request)
        except TooManyTries:
            return "wait"

    outcomes = at_once(*[tried] * 16)
    assert outcomes.count(False) <= TRIES_OF_ADDRESS
    assert outcomes.count("wait") >= 16 - TRIES_OF_ADDRESS
    assert outcomes.count(True) == 0


def test_a_browser_that_knew_it_is_let_in_again_at_this_link_alone(world: World, locked: tuple[ShareLink, str]) -> None:
    link, address = locked
    _, other = shared(world, password=SECRET)
    client = visitor()
    cookie = client.post(address, {"password": SECRET}).cookies[f"link{link.pk}"]
    assert TITLE in client.get(address).content
    assert client.get(f"{address}/evidence.zip")["Content-Type"] == "application/zip"
    assert TITLE not in client.get(other).content
    assert client.get(f"{other}/evidence.zip").status_code == 404
    thief = visitor()
    for row in ShareLink.objects.all():
        thief.cookies[f"link{row.pk}"] = cookie.value
    assert TITLE not in thief.get(other).content, "not under the other's name either"


@pytest.mark.parametrize("secure", [False, True])
def test_the_cookie_is_for_this_address_alone_and_no_script(secure: bool, locked: tuple[ShareLink, str]) -> None:
    link, address = locked
    cookies = visitor().post(address, {"password": SECRET}, secure=secure).cookies
    assert list(cookies) == [f"link{link.pk}"]
    cookie = cookies[f"link{link.pk}"]
    assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", address)
    assert bool(cookie["secure"]) is secure
    assert cookie["max-age"] == int(links.UNLOCKED.total_seconds())
    assert cookie["domain"] == ""
    assert SECRET not in cookie.value
    assert link.password not in signing.b64_decode(cookie.value.split(":")[0].encode()).decode()


@pytest.mark.parametrize("end", ["changed", "revoked", "expired", "older", "other key"])
def test_the_cookie_ends(
    end: str, locked: tuple[ShareLink, str], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, address = locked
    client = visitor()
    client.post(address, {"password": SECRET})
    row = ShareLink.objects.filter(pk=link.pk)
    if end == "changed":
        row.update(password=make_password(SECRET))  # the same one with another salt
    elif end == "revoked":
        links.revoke(link, link.by)
    elif end == "expired":
        row.update(expires_at=timezone.now())
    elif end == "older":
        monkeypatch.setattr(links, "UNLOCKED", timedelta(seconds=-1))
    else:
        settings.SECRET_KEY = "another key of another site"
    answer = client.get(address)
    assert TITLE not in answer.content
    assert answer.status_code == (404 if end in {"revoked", "expired"} else 200)
    assert client.get(f"{address}/evidence.zip").status_code == 404


@pytest.mark.parametrize(
    "value", ["", "x", "a:b:c", ":::", "\u00e9", "x" * 4000, ["x"], None, 7, {"link": 1}], ids=repr
)
def test_a_made_up_cookie_opens_nothing(value: Any, locked: tuple[ShareLink, str]) -> None:
    """Neither as it is nor signed by this site, for something else."""
    link, address = locked
    for cookie in (str(value), signing.dumps(value, salt="featurescope.link"), signing.dumps(value)):
        client = visitor()
        client.cookies[f"link{link.pk}"] = cookie
        answer = client.get(address)
        assert answer.status_code == 200
        assert TITLE not in answer.content


def test_a_link_without_a_password_sets_no_cookie_whatever_is_sent(world: World) -> None:
    _, address = shared(world)
    for answer in (visitor().get(address), visitor().post(address, {"password": SECRET})):
        assert answer.status_code == 200
        assert not answer.cookies


def test_the_archive_never_asks_for_the_password_and_never_takes_it(locked: tuple[ShareLink, str]) -> None:
    _, address = locked
    for word in ("", WRONG, SECRET):
        assert guess(f"{address}/evidence.zip", word) == 404
    assert not WrongPassword.objects.exists()
