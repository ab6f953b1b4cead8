"""Archives that came from elsewhere: opened read-only, marked with the key that signed them, and kept as they came."""

import json
from io import BytesIO
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from features.knowledge.rules import Refused
from features.models import Freezing, Received, Role, Snapshot
from features.sharing import bundle, freezing
from features.sharing.canonical import canonical, digest_of
from features.sharing.freezing import Damaged, receive
from features.sharing.shapes import MAX_BYTES, Unreadable
from features.sharing.signing import signer
from tests.factories import HOSTILE, OVERRIDE, World, make_user
from tests.features.sharing.helpers import another_site, archive, content, frozen_feature, kept, signed_in, visitor

OPEN = "/snapshots/open/"


@pytest.fixture
def given(world: World) -> Any:
    """What another site froze: not what is frozen here."""
    found = content(frozen_feature(world))
    found["title"] = "Feature 9 of another site"
    return found


@pytest.fixture
def reviewer(world: World) -> Client:
    return signed_in(make_user("rita", role=Role.REVIEWER))


def send(client: Client, data: bytes) -> Any:
    return client.post(OPEN, {"archive": SimpleUploadedFile("evidence.zip", data)})


def test_it_is_marked_with_the_key_that_signed_it(given: Any, reviewer: Client) -> None:
    key = another_site()
    assert key.fingerprint != signer().fingerprint
    answer = send(reviewer, archive(given, key))
    snapshot = Snapshot.objects.get(title=given["title"])
    assert (answer.status_code, answer["Location"]) == (302, snapshot.get_absolute_url())
    page = reviewer.get(answer["Location"]).content.decode()
    assert key.fingerprint in page
    assert "signed elsewhere" in page
    assert "https://elsewhere.example/" in page
    assert "opened here, read-only, by <bdi>rita</bdi>" in page
    assert "signed elsewhere" in reviewer.get("/snapshots/").content.decode()
    assert not Freezing.objects.filter(snapshot=snapshot).exists(), "nobody froze it here"


def test_it_goes_out_as_it_came_byte_for_byte(given: Any, reviewer: Client) -> None:
    data = archive(given)
    page = send(reviewer, data)["Location"]
    assert reviewer.get(f"{page}evidence.zip").content == data
    assert reviewer.get(f"/api/v1{page}export").content == data
    made = reviewer.post(f"/api/v1{page}links", {}, content_type="application/json").json()
    shared = visitor().get(made["url"])
    assert "signed elsewhere" in shared.content.decode()
    assert visitor().get(f"{made['url']}/evidence.zip").content == data


def test_the_same_archive_twice_is_one_and_two_signatures_are_two(given: Any, reviewer: Client) -> None:
    data = archive(given)
    assert send(reviewer, data)["Location"] == send(reviewer, data)["Location"]
    assert Received.objects.count() == 1
    send(reviewer, archive(given))
    assert Received.objects.count() == 2
    assert Snapshot.objects.filter(title=given["title"]).count() == 1


def test_what_is_frozen_here_too_keeps_its_own_chain_and_our_signature(world: World, reviewer: Client) -> None:
    snapshot = frozen_feature(world)
    data = archive(content(snapshot))
    assert send(reviewer, data)["Location"] == snapshot.get_absolute_url()
    exported = reviewer.get(f"{snapshot.get_absolute_url()}evidence.zip").content
    assert bundle.check(exported).fingerprint == signer().fingerprint
    assert Snapshot.objects.get(pk=snapshot.pk).open, "what everybody could see, everybody can still see"


@pytest.mark.parametrize("role", [None, Role.VIEWER, Role.RESEARCHER])
def test_only_reviewers_open_archives(role: Role | None, given: Any, world: World) -> None:
    client = signed_in(make_user("eve", role=role)) if role else visitor()
    before = kept()
    assert send(client, archive(given)).status_code == (403 if role else 302)
    assert client.get(OPEN).status_code == (403 if role else 302)
    assert kept() == before


def test_it_is_shown_to_reviewers_alone(given: Any, reviewer: Client, world: World) -> None:
    """Nobody here vouches for it: what a reviewer opened is not what a researcher finds among evidence."""
    page = send(reviewer, archive(given))["Location"]
    researcher = signed_in(make_user("eve", role=Role.RESEARCHER))
    assert researcher.get(page).status_code == 404
    assert researcher.get(f"/api/v1{page.rstrip('/')}").status_code == 404
    assert given["title"] not in researcher.get("/snapshots/").content.decode()


def wrong(given: Any, **changes: Any) -> Any:
    return given | changes


def without(given: Any, name: str) -> Any:
    return {key: value for key, value in given.items() if key != name}


WRONG: dict[str, Any] = {
    "no snapshot": lambda given: {"a": 1},
    "a list": lambda given: [given],
    "a text": lambda given: "snapshot",
    "nothing": lambda given: None,
    "unknown kind": lambda given: wrong(given, kind="view"),
    "no kind": lambda given: without(given, "kind"),
    "kind of another type": lambda given: wrong(given, kind=7),
    "another version": lambda given: wrong(given, version=2),
    "another format": lambda given: wrong(given, format="other"),
    "missing field": lambda given: without(given, "sources"),
    "extra field": lambda given: wrong(given, extra=1),
    "content of another kind": lambda given: wrong(given, kind="run"),
    "content is missing": lambda given: wrong(given, content=None),
    "a type": lambda given: wrong(given, content=given["content"] | {"index": "9"}),
    "a huge number": lambda given: wrong(given, content=given["content"] | {"index": 1e300}),
    "a number beyond float32": lambda given: wrong(given, content=given["content"] | {"decoder_norm": 1e300}),
    "markup for a class": lambda given: wrong(
        given,
        content=given["content"] | {"label": {
            "text": "a", "source": '"><script>', "rule": "", "precision": None, "n_held_out": None, "method": "",
            "explainer": "", "author_name": "", "explanation": "",
        }},
    ),
    "a title too long": lambda given: wrong(given, title="t" * 401),
    "a title too long in bytes and characters": lambda given: wrong(given, title="\N{SNOWMAN}" * 401),
    "no title": lambda given: wrong(given, title=""),
    "a field whose name means harm": lambda given: wrong(given, **{f"{HOSTILE}{OVERRIDE}\0": 1}),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_a_signed_archive_of_the_wrong_form_is_refused_in_a_sentence(what: str, given: Any, reviewer: Client) -> None:
    before = kept()
    answer = send(reviewer, archive(WRONG[what](given)))
    assert answer.status_code == 422
    page = answer.content.decode()
    assert 'role="alert"' in page
    assert HOSTILE not in page
    assert OVERRIDE not in page
    assert "\0" not in page
    assert kept() == before


def raw(body: bytes) -> bytes:
    """A bundle of bytes that are no canonical JSON: make_bundle would refuse, so its parts are put together here."""
    from features.sharing.archive import pack

    key = another_site()
    files = {"snapshot.json": body, "page.html": b"", "public-key.pem": key.public_pem}
    entries = {name: {"bytes": len(data), "sha256": digest_of(data)} for name, data in files.items()}
    manifest = canonical(
        {
            "format": "featurescope-evidence",
            "version": 1,
            "snapshot": digest_of(body),
            "kind": "feature",
            "key": key.fingerprint,
            "files": entries,
            "record": {},
        }
    )
    return pack(files | {"manifest.json": manifest, "manifest.sig": key.sign(manifest).hex().encode() + b"\n"})


BYTES = {
    "no JSON": b"snapshot",
    "nothing": b"",
    "half a character": b'{"kind":"\xff"}',
    "half of a pair": b'{"kind":"\\ud800"}',
    "not canonical": b'{ "kind": "feature" }',
    "a key twice": b'{"kind":"feature","kind":"run"}',
    "not a number": b'{"kind":NaN}',
    "endless": b'{"kind":1e999}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"a":' * 5000 + b"1" + b"}" * 5000,
    "large": b'"' + b"x" * (20 << 20) + b'"',
    "many digits": b'{"kind":' + b"9" * 2_000_000 + b"}",
}


@pytest.mark.parametrize("what", BYTES)
def test_bytes_that_are_no_snapshot_are_refused_in_a_sentence(what: str, world: World, reviewer: Client) -> None:
    before = kept()
    answer = send(reviewer, raw(BYTES[what]))
    assert answer.status_code == 422
    assert b'role="alert"' in answer.content
    assert kept() == before


@pytest.mark.parametrize("data", [b"", b"PK", b"PK\3\4" * 100, b"x" * 1000, b"PK\5\6" + bytes(18)], ids=repr)
def test_what_is_no_archive_is_refused(data: bytes, world: World, reviewer: Client) -> None:
    before = kept()
    assert send(reviewer, data).status_code == 422
    assert reviewer.post(OPEN).status_code == 422
    assert reviewer.post(OPEN, {"archive": "a text"}).status_code == 422
    assert kept() == before


def test_an_archive_beyond_the_limit_is_not_read(
    world: World, reviewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("features.views.snapshots.MAX_ARCHIVE", 1 << 20)
    answer = send(reviewer, bytes((1 << 20) + 1))
    assert answer.status_code == 422
    assert b"at most 1 MiB" in answer.content
    assert MAX_BYTES < 64 << 20


def test_characters_that_a_database_does_not_store_change_nothing_of_the_evidence(given: Any, reviewer: Client) -> None:
    """PostgreSQL stores no U+0000 in a text. The evidence keeps it: what names it is its digest."""
    given["title"] = "a\0b"
    given["content"]["tags"] = ["c\0d"]
    record = {"site": "e\0f", "\0": {"\0": ["\0"]}, "frozen": [{"by": "\0", "n": 1e300, "m": 2**53 - 1}]}
    data = archive(given, record=record)
    answer = send(reviewer, data)
    assert answer.status_code == 302
    snapshot = Snapshot.objects.get(digest=digest_of(canonical(given)))
    assert snapshot.title == "a\ufffdb"
    assert freezing.read(snapshot).title == "a\0b"
    page = reviewer.get(answer["Location"]).content.decode()
    assert "\0" not in page
    assert "a\ufffdb" in page
    assert reviewer.get(f"{answer['Location']}evidence.zip").content == data
    assert b"\0" not in reviewer.get("/snapshots/").content


@pytest.mark.parametrize(
    "record",
    [
        {"site": f"{HOSTILE}{OVERRIDE}"},
        {"site": {HOSTILE: [HOSTILE]}},
        {"site": [f'"><b onclick=x>{OVERRIDE}'] * 20},
        {"site": 7, "frozen": HOSTILE, "superseded_by": {"a": HOSTILE}},
        {"site": "x" * 100_000},
        {"site": None},
        {},
    ],
    ids=lambda record: repr(record)[:40],
)
def test_what_a_record_says_is_text(record: dict[str, Any], given: Any, reviewer: Client) -> None:
    answer = send(reviewer, archive(given, record=record))
    assert answer.status_code == 302
    page = reviewer.get(answer["Location"]).content.decode()
    assert HOSTILE not in page
    assert "<b onclick" not in page
    assert OVERRIDE not in page
    assert "x" * 1000 not in page


def test_a_stored_archive_that_was_changed_is_not_handed_out(given: Any, world: World) -> None:
    came = receive(archive(given), world.user)
    data = bytearray(came.archive)
    data[len(data) // 2] ^= 1
    Received.objects.update(archive=bytes(data))
    rita = signed_in(make_user("rita", role=Role.REVIEWER))
    answer = rita.get(f"{came.snapshot.get_absolute_url()}evidence.zip")
    assert answer.status_code == 500
    assert b"do not match its digest" in answer.content
    with pytest.raises(Damaged):
        freezing.as_it_came(Received.objects.get())


def test_one_changed_byte_is_refused_by_name(given: Any, reviewer: Client) -> None:
    data = archive(given)
    at = data.index(b'"title":') + 12
    before = kept()
    answer = send(reviewer, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert answer.status_code == 422
    assert "snapshot.json was changed" in answer.content.decode()
    assert kept() == before


def test_nothing_is_left_of_an_archive_that_fails_half_way(
    given: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("the database went away")

    before = kept()
    data = archive(given)
    monkeypatch.setattr(Received.objects, "get_or_create", fails)
    with pytest.raises(RuntimeError, match="went away"):
        receive(data, world.user)
    assert kept() == before


def test_a_wrong_archive_raises_one_kind_of_error(world: World) -> None:
    for data in (b"", b"PK", raw(b"{}"), archive({"a": 1})):
        with pytest.raises(Unreadable):
            receive(data, world.user)
    assert not issubclass(Unreadable, Refused)


def test_the_uploaded_name_is_nothing_to_us(given: Any, reviewer: Client) -> None:
    file = BytesIO(archive(given))
    file.name = f"../../{HOSTILE}.php"
    assert reviewer.post(OPEN, {"archive": file}).status_code == 302
    assert HOSTILE not in json.dumps([row.record for row in Received.objects.all()])
