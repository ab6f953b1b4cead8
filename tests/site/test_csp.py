"""Every answer of the site forbids what no page of it needs: found from the URL configuration, so none is forgotten."""

import re
from collections.abc import Iterator

import pytest
from django.http import HttpResponseBase
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, reverse

from features.views import browse
from tests.factories import World

POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data: blob:",
    "font-src": "'self'",
    "connect-src": "'self'",
    "object-src": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "form-action": "'self'",
}
# What stands in the place of a parameter, so that most addresses name something of the tests' world.
VALUES = {
    "slug": "tiny-lm-l6",
    "sae": "tiny-lm-l6",
    "index": 5,
    "number": 0,
    "name": "density",
    "kind": "csv",
    "batch": "00000000-0000-4000-8000-000000000000",
}


def patterns(resolver: URLResolver, prefix: str = "") -> Iterator[tuple[str, URLPattern]]:
    """Every pattern with the name that ``reverse`` knows it by."""
    for entry in resolver.url_patterns:
        if isinstance(entry, URLResolver):
            yield from patterns(entry, f"{prefix}{entry.namespace}:" if entry.namespace else prefix)
        else:
            yield f"{prefix}{entry.name}", entry


def addresses() -> list[str]:
    return sorted({reverse(name, kwargs=arguments(pattern)) for name, pattern in patterns(get_resolver())})


def arguments(pattern: URLPattern) -> dict[str, object]:
    return {name: VALUES.get(name, 1) for name in pattern.pattern.regex.groupindex}


def check(answer: HttpResponseBase) -> None:
    found = dict(part.strip().split(" ", 1) for part in answer["Content-Security-Policy"].split(";"))
    assert found.keys() == POLICY.keys()
    assert all(found[name] in (allowed, "'none'") for name, allowed in POLICY.items()), found  # less, but never more
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"
    assert answer["Permissions-Policy"].startswith("camera=(), ")
    assert "Referrer-Policy" in answer
    is_file = answer.streaming or "attachment" in answer.get("Content-Disposition", "")
    if answer.get("Content-Type", "").startswith("text/html") and not is_file:
        check_page(answer.content.decode())  # type: ignore[attr-defined]


def check_page(page: str) -> None:
    """Nothing stands in it that the policy would keep from working."""
    assert not re.search(r"<[^>]+\s(style|on\w+)=", page)
    assert "<style" not in page
    assert all("src=" in tag or "application/json" in tag for tag in re.findall(r"<script[^>]*>", page))


def test_the_list_of_addresses_is_whole() -> None:
    assert len(addresses()) > 90
    assert {"/", "/login/", "/api/v1/docs", "/api/v1/saes", "/saes/tiny-lm-l6/features/5/"} <= set(addresses())


@pytest.mark.parametrize("address", addresses())
def test_every_address_has_the_policy(address: str, world: World, client_in: Client, anonymous: Client) -> None:
    for client in (client_in, anonymous):
        answer = client.get(address)
        assert answer.status_code < 500
        check(answer)


def test_so_have_the_answers_to_what_goes_wrong(
    world: World, client_in: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError

    strict = Client(enforce_csrf_checks=True)
    answers = {
        301: client_in.get("/models"),
        400: client_in.get("/", headers={"Host": "elsewhere.example"}),
        403: strict.post("/login/"),
        404: client_in.get("/nowhere/"),
        405: client_in.get("/logout/"),
    }
    client_in.raise_request_exception = False
    monkeypatch.setattr(browse, "render", fail)
    answers[500] = client_in.get("/")
    assert {status: answer.status_code for status, answer in answers.items()} == {status: status for status in answers}
    for answer in answers.values():
        check(answer)
