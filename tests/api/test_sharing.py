"""Frozen evidence through the API: freeze, read, share, take back, export."""

import hashlib
import json
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.dateparse import parse_datetime

from features.models import ApiKey, Freezing, Role, ShareLink, Snapshot
from features.models.access import digest_of
from features.sharing import bundle, links
from features.sharing.signing import signer
from tests.factories import NAMED, World, make_user
from tests.features.sharing.helpers import INDEX, SECRET, frozen_feature, kept, shared, stored, visitor

SNAPSHOTS = "/api/v1/snapshots"


def with_key(user: Any) -> Client:
    return Client(headers={"X-API-Key": ApiKey.objects.issue(user, "notebook")[1]})


@pytest.fixture
def program(world: World) -> Client:
    return with_key(world.user)


def post(client: Client, address: str, body: Any) -> Any:
    return client.post(address, body, content_type="application/json")


def test_a_program_freezes_reads_shares_takes_back_and_exports(world: World, program: Client) -> None:
    made = post(program, SNAPSHOTS, {"kind": "feature", "sae": world.sae.slug, "index": INDEX}).json()
    assert set(made) == {"digest", "kind", "title", "url"}
    address = f"{SNAPSHOTS}/{made['digest']}"
    body = program.get(address)
    assert body["Content-Type"] == "application/json"
    assert hashlib.sha256(body.content).hexdigest() == made["digest"]
    assert json.loads(body.content)["title"] == made["title"]
    archive = program.get(f"{address}/export")
    assert archive["Content-Type"] == "application/zip"
    assert archive["Content-Disposition"] == f'attachment; filename="evidence-{made["digest"][:16]}.zip"'
    verdict = bundle.check(archive.content, signer().public_pem)
    assert (verdict.ok, verdict.trusted, verdict.digest) == (True, True, made["digest"])
    link = post(program, f"{address}/links", {"expires_in_days": 3, "note": "for Grace"}).json()
    assert set(link) == {"id", "url", "expires_at"}
    ends = parse_datetime(link["expires_at"])
    assert ends
    assert timedelta(days=2, hours=23) < ends - timezone.now() <= timedelta(days=3)
    assert visitor().get(link["url"]).status_code == 200
    assert program.delete(f"/api/v1/links/{link['id']}").status_code == 204
    assert visitor().get(link["url"]).status_code == 404


@pytest.mark.parametrize("kind", ["feature", "comparison", "run"])
def test_each_kind_is_frozen_by_its_names(kind: str, world: World, program: Client) -> None:
    sae = world.sae.slug
    named: dict[str, dict[str, Any]] = {
        "feature": {"sae": sae, "index": NAMED, "run": world.run.pk},
        "comparison": {"a": f"{sae}/{INDEX}", "b": f"{sae}/{NAMED}"},
        "run": {"run": world.run.pk},
    }
    first, again = (post(program, SNAPSHOTS, {"kind": kind, **named[kind]}) for _ in range(2))
    assert (first.status_code, first.json()["kind"]) == (200, kind)
    assert first.json() == again.json()
    assert Snapshot.objects.count() == 1


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"kind": "view"}, 422),
        ({"kind": None}, 422),
        ({"kind": ["feature"]}, 422),
        ({"kind": "feature"}, 422),
        ({"kind": "feature", "sae": "tiny-lm-l6"}, 422),
        ({"kind": "feature", "sae": "tiny-lm-l6", "index": -1}, 422),
        ({"kind": "feature", "sae": "tiny-lm-l6", "index": "nine"}, 422),
        ({"kind": "feature", "sae": "tiny-lm-l6", "index": 10**6}, 404),
        ({"kind": "feature", "sae": "tiny-lm-l6", "index": 10**17}, 404),
        ({"kind": "feature", "sae": "tiny-lm-l6", "index": 10**30}, 422),
        ({"kind": "feature", "sae": "tiny-lm-l6", "index": 1, "run": 10**17}, 404),
        ({"kind": "feature", "sae": "\0", "index": 1}, 404),
        ({"kind": "feature", "sae": "x" * 10_000, "index": 1}, 404),
        ({"kind": "feature", "sae": "..", "index": 1}, 404),
        ({"kind": "feature", "sae": {"a": 1}, "index": 1}, 422),
        ({"kind": "run", "run": 0}, 404),
        ({"kind": "run", "run": 10**17}, 404),
        ({"kind": "run", "run": 2**63}, 422),
        ({"kind": "comparison", "a": "tiny-lm-l6/1"}, 422),
        ({"kind": "comparison", "a": "\0", "b": "\0"}, 422),
        ({"kind": "collection", "collection": "\0"}, 404),
        ({"kind": "collection", "collection": "none"}, 404),
        ({"kind": "text", "trial": 10**17}, 404),
        ({"kind": "text", "trial": -1}, 422),
        ([], 422),
        ("x", 422),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_names_nothing_is_refused_in_a_sentence(body: Any, status: int, world: World, program: Client) -> None:
    answer = program.post(SNAPSHOTS, json.dumps(body), content_type="application/json")
    assert answer.status_code == status
    assert isinstance(answer.json()["detail"], str)
    assert not Snapshot.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {"expires_in_days": 0},
        {"expires_in_days": 366},
        {"expires_in_days": -5},
        {"expires_in_days": "soon"},
        {"expires_in_days": None},
        {"expires_in_days": 1e9},
        {"password": "short"},
        {"password": "x" * 201},
        {"password": 12345678},
        {"note": "x" * 201},
        {"note": "a\0b"},
        {"note": "a\u202eb"},
        {"preview": "perhaps"},
    ],
    ids=repr,
)
def test_a_link_that_cannot_be_is_refused_in_a_sentence(body: dict[str, Any], world: World, program: Client) -> None:
    address = f"{SNAPSHOTS}/{frozen_feature(world).digest}/links"
    answer = post(program, address, body)
    assert answer.status_code == 422
    assert answer.json()["detail"]
    assert not ShareLink.objects.exists()


def test_a_password_and_a_note_stay_here(world: World, program: Client) -> None:
    address = f"{SNAPSHOTS}/{frozen_feature(world).digest}/links"
    made = post(program, address, {"password": SECRET, "note": "for Grace", "preview": True})
    assert SECRET not in made.content.decode()
    assert SECRET not in stored()
    page = visitor().get(made.json()["url"])
    assert b'type="password"' in page.content
    opened = visitor().post(made.json()["url"], {"password": SECRET}).content.decode()
    assert "Feature 9" in opened
    assert "for Grace" not in opened


def test_the_token_is_in_one_answer_and_nowhere_else(world: World, program: Client) -> None:
    snapshot = frozen_feature(world)
    url = post(program, f"{SNAPSHOTS}/{snapshot.digest}/links", {}).json()["url"]
    token = url.rpartition("/")[2]
    assert digest_of(token) in stored()
    assert token not in stored()
    assert token not in program.get(f"{SNAPSHOTS}/{snapshot.digest}").content.decode()


def test_a_link_is_taken_back_by_its_number_alone(world: World, program: Client) -> None:
    """Its owner's own key: what others know of a link, which is its address, is no name of it."""
    link, address = shared(world)
    before = kept()
    for name in (address.removeprefix("/s/"), link.token_digest, link.snapshot.digest, "*", "%00", ":link", "-1", "0"):
        assert program.delete(f"/api/v1/links/{name}").status_code in {404, 422}
    for number in (link.pk + 1, 2**63, 10**30):
        assert program.delete(f"/api/v1/links/{number}").status_code in {404, 422}
    assert kept() == before
    assert program.delete(f"/api/v1/links/{link.pk}").status_code == 204
    assert program.delete(f"/api/v1/links/{link.pk}").status_code == 204, "taken back is taken back"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.RESEARCHER, Role.REVIEWER])
def test_another_persons_link_is_not_there_to_be_taken_back(role: Role, world: World) -> None:
    link, address = shared(world)
    other = with_key(make_user("eve", role=role))
    before = kept()
    theirs = other.delete(f"/api/v1/links/{link.pk}")
    nowhere = other.delete(f"/api/v1/links/{link.pk + 1}")
    assert theirs.status_code == nowhere.status_code == (403 if role == Role.VIEWER else 404)
    assert theirs.content == nowhere.content
    assert kept() == before
    assert visitor().get(address).status_code == 200


def test_an_administrator_takes_back_any_link(world: World) -> None:
    link, address = shared(world)
    assert with_key(make_user("boss", role=Role.ADMINISTRATOR)).delete(f"/api/v1/links/{link.pk}").status_code == 204
    link.refresh_from_db()
    assert link.revoked_by == "boss"
    assert visitor().get(address).status_code == 404


@pytest.mark.parametrize(
    "digest",
    [
        ":digest",
        "%3Adigest",
        "*",
        "..",
        "%2e%2e",
        "%00",
        "A" * 64,
        "0" * 63,
        "0" * 65,
        "0" * 5000,
        "%E2%80%AE" * 64,
        "_",
    ],
)
def test_a_digest_that_is_none_gives_nothing_away(digest: str, world: World, program: Client) -> None:
    snapshot = frozen_feature(world)
    before = kept()
    for end in ("", "/export"):
        answer = program.get(f"{SNAPSHOTS}/{digest}{end}")
        assert answer.status_code == 404
        assert snapshot.digest not in answer.content.decode()
    assert post(program, f"{SNAPSHOTS}/{digest}/links", {}).status_code in {404, 405}
    assert kept() == before


def test_a_digest_in_capitals_is_another_name(world: World, program: Client) -> None:
    assert program.get(f"{SNAPSHOTS}/{frozen_feature(world).digest.upper()}").status_code == 404


def test_nothing_changes_or_deletes_a_snapshot(world: World) -> None:
    snapshot = frozen_feature(world)
    boss = with_key(make_user("boss", role=Role.ADMINISTRATOR))
    before = kept()
    for method in ("delete", "put", "patch"):
        for end in ("", "/export", "/links"):
            address = f"{SNAPSHOTS}/{snapshot.digest}{end}"
            assert getattr(boss, method)(address, "{}", content_type="application/json").status_code == 405
    assert kept() == before
    assert Freezing.objects.count() == 1


def test_a_viewer_reads_and_exports_and_does_no_more(world: World) -> None:
    digest = frozen_feature(world).digest
    vera = with_key(make_user("vera", role=Role.VIEWER))
    before = kept()
    assert vera.get(f"{SNAPSHOTS}/{digest}").status_code == 200
    assert vera.get(f"{SNAPSHOTS}/{digest}/export").status_code == 200
    assert post(vera, SNAPSHOTS, {"kind": "run", "run": world.run.pk}).status_code == 403
    assert post(vera, f"{SNAPSHOTS}/{digest}/links", {}).status_code == 403
    assert vera.delete("/api/v1/links/1").status_code == 403
    assert kept() == before


def test_an_outsider_is_told_to_sign_in_whatever_they_know(world: World) -> None:
    link, address = shared(world)
    outsider = Client(headers={"X-API-Key": address.removeprefix("/s/")})
    for method, path in (("get", f"{SNAPSHOTS}/{link.snapshot.digest}"), ("delete", f"/api/v1/links/{link.pk}")):
        assert getattr(outsider, method)(path).status_code == 401
    assert visitor().get(address).status_code == 200


def test_a_damaged_snapshot_is_said_in_json(world: World, program: Client) -> None:
    snapshot = frozen_feature(world)
    Snapshot.objects.update(packed=b"broken")
    for end in ("", "/export"):
        answer = program.get(f"{SNAPSHOTS}/{snapshot.digest}{end}")
        assert answer.status_code == 500
        assert "do not match its digest" in answer.json()["detail"]


def test_an_archive_of_something_that_was_frozen_often_by_long_names_is_made(world: World, program: Client) -> None:
    """Its record fits into what a reader of archives reads, whatever the subjects and the people are called."""
    snapshot = frozen_feature(world)
    rows = [Freezing(snapshot=snapshot, subject="\1" * 400, by_name="\N{SNOWMAN}" * 150) for _ in range(300)]
    Freezing.objects.bulk_create(rows)
    answer = program.get(f"{SNAPSHOTS}/{snapshot.digest}/export")
    assert answer.status_code == 200
    assert bundle.check(answer.content).ok


def test_the_description_of_the_api_names_no_way_to_delete_a_snapshot(world: World, program: Client) -> None:
    paths = program.get("/api/v1/openapi.json").json()["paths"]
    named = {path: set(methods) for path, methods in paths.items() if "snapshots" in path or "/links" in path}
    assert named == {
        "/api/v1/snapshots": {"post"},
        "/api/v1/snapshots/{digest}": {"get"},
        "/api/v1/snapshots/{digest}/links": {"post"},
        "/api/v1/snapshots/{digest}/export": {"get"},
        "/api/v1/links/{link}": {"delete"},
    }
    assert links.DAYS == 14
