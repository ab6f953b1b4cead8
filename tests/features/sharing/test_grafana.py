"""Three faults that Grafana's snapshots had, tried on ours.

CVE-2021-39226: the path of a route, taken literally, was the key of every snapshot, which it showed or deleted.
CVE-2024-1313: whoever could view a snapshot could delete it. CVE-2026-28380: any editor could delete anybody's.
"""

from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client

from features.models import Freezing, Received, Role, ShareLink, Snapshot
from features.models.access import digest_of
from features.sharing import links
from tests.api.test_access import operations
from tests.factories import World, make_user
from tests.features.sharing.helpers import frozen_feature, kept, shared, signed_in, visitor
from tests.site.test_permissions import PAGES

METHODS = ("get", "head", "post", "put", "patch", "delete", "options")
LITERAL = [
    ":key", "%3Akey", ":digest", ":token", "<str:token>", "{digest}", "{link}", "*", "**", "%", "%25", "_", ".", "..",
    "%2e%2e", "..%2f..", "%2e%2e%2fsnapshots", "%00", "%0a", "\N{SNOWMAN}", "\u202e", "' OR 1=1 --", "[]", "null",
    "true", "0", "-1", "1e3", "9" * 30, "a" * 64, "A" * 32, "0" * 64, "x" * 5000, "?", "#", ";", "$where", "%ff%fe",
]  # fmt: skip
PLACES = [
    "/s/{}", "/s/{}/", "/s/{}/evidence.zip", "/snapshots/{}/", "/snapshots/{}/evidence.zip", "/snapshots/{}/links/",
    "/links/{}/", "/links/{}/revoke/", "/api/v1/snapshots/{}", "/api/v1/snapshots/{}/export",
    "/api/v1/snapshots/{}/links", "/api/v1/links/{}",
]  # fmt: skip
NOWHERE = {302, 401, 403, 404, 405, 422}
"""302: to the login page, or to the address with its slash."""


def quoted(literal: str) -> str:
    return quote(literal, safe="%:*{}<>'$;[]()=.,@!&+")


def ask(client: Client, method: str, address: str) -> Any:
    if method in {"get", "head"}:
        return getattr(client, method)(address)
    return getattr(client, method)(address, "{}", content_type="application/json")


@pytest.mark.parametrize("role", [None, Role.ADMINISTRATOR])
@pytest.mark.parametrize("place", PLACES)
def test_a_literal_path_is_no_key(place: str, role: Role | None, world: World) -> None:
    shared(world)
    client = signed_in(make_user("eve", role=role)) if role else visitor()
    before = kept()
    for literal in LITERAL:
        for method in ("get", "delete" if "/api/" in place else "post"):
            answer = ask(client, method, place.format(quoted(literal)))
            assert answer.status_code in NOWHERE, (method, literal)
            if answer.status_code == 302:
                assert answer["Location"].startswith(("/login/?next=", "/links/", "/snapshots/", "/s/"))
            assert b"Feature 9" not in answer.getvalue()
    assert kept() == before


def test_no_address_alone_gives_everything_away(world: World) -> None:
    shared(world)
    client = visitor()
    lists = ("/api/v1/snapshots", "/api/v1/links", "/snapshots", "/links")
    for address in ("/s/", "/s", "/s//", "/s//evidence.zip", *lists):
        for method in METHODS:
            answer = ask(client, method, address)
            assert answer.status_code in {301, 302, 401, 404, 405}, address
            assert b"Feature 9" not in answer.getvalue()


@pytest.mark.parametrize("role", [None, Role.VIEWER, Role.RESEARCHER, Role.REVIEWER])
def test_whoever_can_view_a_link_cannot_take_it_back(role: Role | None, world: World) -> None:
    link, address = shared(world)
    token, digest = address.removeprefix("/s/"), link.snapshot.digest
    client = signed_in(make_user("eve", role=role)) if role else visitor()
    assert client.get(address).status_code == 200
    before = kept()
    number = link.pk
    for name in (token, digest, digest_of(token), number, f"{number}%20", f"{number}%00", f"+{number}", f"0{number}"):
        for place in ("/links/{}/", "/links/{}/revoke/", "/api/v1/links/{}"):
            for method in ("post", "delete"):
                assert ask(client, method, place.format(name)).status_code in (NOWHERE - {302} if role else NOWHERE)
    for method in METHODS:
        ask(client, method, address)
        ask(client, method, f"{address}/revoke/")
        ask(client, method, f"/snapshots/{digest}/")
        ask(client, method, f"/api/v1/snapshots/{digest}")
    assert kept() == before
    assert visitor().get(address).status_code == 200


@pytest.mark.parametrize("role", Role)
def test_no_page_changes_or_deletes_a_snapshot(role: Role, world: World) -> None:
    """Whatever is sent to whatever address names one, with every method."""
    snapshot, fields = frozen_feature(world), ("id", "digest", "packed", "title", "kind", "n_bytes", "open")
    before = list(Snapshot.objects.values(*fields))
    client = signed_in(make_user("eve", role=role))
    names = {"digest": snapshot.digest, "token": links.issue(snapshot, world.user)[1]}
    routes = [route for route in PAGES if "digest" in route or "token" in route]
    assert len(routes) > 5
    for route in routes:
        address = "/" + route
        for name, value in names.items():
            address = address.replace(f"<str:{name}>", value).replace(f"<path:{name}>", value)
        for method in METHODS:
            for data in ({}, {"_method": "DELETE", "open": "1", "title": "mine"}):
                getattr(client, method)(address, data)
    assert list(Snapshot.objects.values(*fields)) == before
    assert Freezing.objects.count() == 1


def test_no_operation_is_there_to_change_or_delete_a_snapshot() -> None:
    assert not [path for method, path in operations() if method in {"delete", "put", "patch"} and "snapshot" in path]
    named = [route for route in PAGES if "snapshot" in route]
    assert named
    assert not [route for route in named if any(word in route for word in ("delete", "edit", "remove", "change"))]


def test_nothing_deletes_a_snapshot_that_is_linked_to_frozen_or_received(world: World) -> None:
    """The database itself keeps it, even from a program of ours that tries."""
    snapshot = frozen_feature(world)
    links.issue(snapshot, world.user)
    for model in (ShareLink, Freezing, Received):
        field: Any = model._meta.get_field("snapshot")
        assert field.remote_field.on_delete.__name__ == "PROTECT"
    world.user.delete()
    assert Snapshot.objects.filter(pk=snapshot.pk).exists()
    assert ShareLink.objects.filter(snapshot=snapshot).exists()


@pytest.mark.parametrize("role", [Role.RESEARCHER, Role.REVIEWER])
def test_another_researchers_snapshot_and_link_outlive_every_editor(role: Role, world: World) -> None:
    link, address = shared(world)
    eve = signed_in(make_user("eve", role=role))
    before = kept()
    for method in METHODS:
        ask(eve, method, f"/api/v1/links/{link.pk}")
        ask(eve, method, f"/links/{link.pk}/revoke/")
        ask(eve, method, f"/api/v1/snapshots/{link.snapshot.digest}")
        ask(eve, method, link.snapshot.get_absolute_url())
    assert kept() == before
    assert visitor().get(address).status_code == 200
