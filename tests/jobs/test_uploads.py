"""Receiving an upload: names and sizes that are refused, pieces in their order, and going on where it broke off."""

import fcntl
import re
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from django.conf import settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from hypothesis import example, given
from hypothesis import strategies as st
from redis import Redis

from jobs import files, uploads
from jobs.catalogue import NotUsable
from jobs.models import Checkpoint

CREATE = "/saes/add/upload/"
FORM = "/saes/add/form/"
CONTENT = bytes(range(256)) * 5

pytestmark = pytest.mark.django_db


def listed(name: object, size: object = len(CONTENT)) -> dict[str, Any]:
    return {"name": name, "bytes": size, "modified": 1}


def announce(client: Client, *files: dict[str, Any], **more: str) -> Any:
    return client.post(CREATE, {"files": files, **more}, content_type="application/json")


def begun(client: Client, *names: str) -> Checkpoint:
    answer = announce(client, *(listed(name) for name in names or ("sae/cfg.json",)))
    assert answer.status_code == 201, answer.content
    return Checkpoint.objects.get()


def send(client: Client, checkpoint: Checkpoint, content: bytes, offset: int = 0, number: int = 0, **more: Any) -> Any:
    url = f"/saes/add/{checkpoint.pk}/files/{number}/?offset={offset}"
    return client.put(url, content, content_type="application/octet-stream", **more)


def fault(*listing: Any) -> str:
    with pytest.raises(NotUsable) as caught:
        uploads.check(list(listing))
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "/etc/cfg.json", "../cfg.json", "a/../cfg.json", "a//cfg.json", "./cfg.json", ".hidden.json", "a/.git/cfg.json",
        "a\\cfg.json", "a\ncfg.json", "a\0.json", "\u202ecfg.json", "\ud800.json", "a" * 196 + ".json",
        "é" * 101 + ".json", "cfg.exe", "cfg", "a/", "", None, 3,
    ],
)  # fmt: skip
def test_unsafe_names_are_refused(name: object) -> None:
    with pytest.raises(NotUsable):
        uploads.check_name(name)


@pytest.mark.parametrize(
    "name", ["cfg.json", "layer_20/width_16k/average_l0_71/params.npz", "SAE W32K-L0_50/l5.sae.pt"]
)
def test_names_that_say_layer_and_k_are_kept(name: str) -> None:
    assert uploads.check_name(name) == name


@given(st.text(max_size=40) | st.lists(st.text("ab./\\\0 ", max_size=5), max_size=5).map("/".join))
@example("a/../../b")
def test_no_name_leads_out_of_its_folder(start: str) -> None:
    name = f"{start}.json"
    try:
        uploads.check_name(name)
    except NotUsable as error:
        assert str(error).isprintable() or not name.isprintable()
        return
    path = PurePosixPath("/root", name)
    assert path.is_relative_to("/root")
    assert ".." not in path.parts
    assert str(path.relative_to("/root")) == name


def test_what_is_announced_is_checked_at_once(settings: Any) -> None:
    settings.MAX_SAE_BYTES = 1000
    assert "more than the 1000\xa0bytes that may be sent" in fault(listed("a.json", 600), listed("b.json", 401))
    assert "65 files are more than the 64" in fault(*(listed(f"{n}.json", 1) for n in range(65)))
    assert "A.json is there twice" in fault(listed("a.json", 1), listed("A.json", 1))
    assert "a.pt is a file and a folder at once" in fault(listed("a.pt", 1), listed("a.pt/b.pt", 1))
    for size in (0, -1, None, True, 1.5, "9", 1 << 70):
        assert "a.json is empty, or its size is not known" in fault(listed("a.json", size))
    for nothing in ([], [3], None):
        with pytest.raises(NotUsable):
            uploads.check(nothing)
    assert uploads.check([listed("a.json", 1000)]) == [{"name": "a.json", "bytes": 1000, "modified": 1, "stored": ""}]


def test_a_disk_that_is_too_small_is_told_before_anything_is_sent(settings: Any) -> None:
    settings.MAX_SAE_BYTES = 1 << 61
    assert "disk has no room" in fault(listed("a.pt", 1 << 60))


def test_the_refusal_reaches_the_browser(as_member: Client) -> None:
    answer = announce(as_member, listed("../../etc/passwd.json"))
    assert answer.status_code == 422
    assert "leads out of its folder" in answer.json()["error"]
    assert as_member.post(CREATE, "[", content_type="application/json").status_code == 422
    assert as_member.post(CREATE, "[1]", content_type="application/json").json()["error"].startswith("The list")
    assert "k: give a whole number" in announce(as_member, listed("a.pt"), k="many").json()["error"]
    assert not Checkpoint.objects.exists()


def test_nobody_begins_more_than_a_few(as_member: Client) -> None:
    answers = [announce(as_member, listed("a.pt")).status_code for _ in range(9)]
    assert answers == [201] * 8 + [422]


@pytest.mark.django_db(transaction=True)
def test_pieces_become_a_file_that_workers_find(as_member: Client, broker: Redis) -> None:
    checkpoint = begun(as_member, "sae/cfg.json", "sae/inner/weights.pt")
    assert send(as_member, checkpoint, CONTENT[:1000]).json()["files"][0]["received"] == 1000
    assert send(as_member, checkpoint, CONTENT[1000:], 1000).json()["files"][0]["stored"]
    checkpoint.refresh_from_db()
    assert checkpoint.state == Checkpoint.State.RECEIVING
    answer = send(as_member, checkpoint, CONTENT, number=1).json()
    assert (answer["state"], answer["url"]) == ("waiting", checkpoint.get_absolute_url())
    assert broker.llen("default") == 1
    checkpoint.refresh_from_db()
    place = uploads.fetch(checkpoint)
    assert place.name == "sae"
    assert (place / "cfg.json").read_bytes() == (place / "inner" / "weights.pt").read_bytes() == CONTENT
    assert all(default_storage.exists(file["stored"]) for file in checkpoint.files)
    assert list(uploads.folder(checkpoint.place).iterdir()) == []


def test_a_piece_out_of_place_is_answered_with_what_is_here(as_member: Client) -> None:
    checkpoint = begun(as_member)
    send(as_member, checkpoint, CONTENT[:100])
    for offset in (0, 99, 101):
        answer = send(as_member, checkpoint, CONTENT[:10], offset)
        assert (answer.status_code, answer.json()["files"][0]["received"]) == (409, 100)
    assert as_member.get(f"/saes/add/{checkpoint.pk}/files/").json()["files"][0]["received"] == 100


def test_two_pages_do_not_write_into_one_file(as_member: Client) -> None:
    checkpoint = begun(as_member)
    send(as_member, checkpoint, CONTENT[:100])
    with (uploads.folder(checkpoint.place) / "0.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert send(as_member, checkpoint, CONTENT[100:], 100).status_code == 409
    assert send(as_member, checkpoint, CONTENT[100:], 100).status_code == 200


def test_nothing_is_taken_after_the_end(as_member: Client) -> None:
    checkpoint = begun(as_member)
    send(as_member, checkpoint, CONTENT)
    for content, offset in ((CONTENT, 0), (b"", len(CONTENT)), (CONTENT[:5], 0)):
        answer = send(as_member, checkpoint, content, offset)
        assert (answer.status_code, answer.json()["state"]) == (409, "waiting")
    assert not (uploads.folder(checkpoint.place) / "0.part").exists()


def test_a_file_that_was_whole_when_the_server_stopped_is_stored_when_asked(as_member: Client) -> None:
    checkpoint = begun(as_member)
    uploads.folder(checkpoint.place).mkdir(parents=True)
    (uploads.folder(checkpoint.place) / "0.part").write_bytes(CONTENT)
    assert send(as_member, checkpoint, b"", len(CONTENT)).json()["state"] == "waiting"


def test_what_came_before_the_connection_broke_stays(as_member: Client) -> None:
    class Broken:
        sent = False

        def read(self, size: int, /) -> bytes:
            if self.sent:
                raise ConnectionResetError("gone")
            self.sent = True
            return CONTENT[:700]

    checkpoint = begun(as_member)
    with pytest.raises(ConnectionResetError):
        uploads.receive(checkpoint, 0, 0, len(CONTENT), Broken())
    assert uploads.received(checkpoint, 0) == 700
    assert send(as_member, checkpoint, CONTENT[700:], 700).json()["state"] == "waiting"


@pytest.mark.parametrize("query", ["", "?offset=", "?offset=-1", "?offset=1e3", "?offset=" + "9" * 30])
def test_a_piece_says_where_it_belongs(as_member: Client, query: str) -> None:
    checkpoint = begun(as_member)
    url = f"/saes/add/{checkpoint.pk}/files/0/"
    assert as_member.put(url + query, CONTENT).status_code == 400
    assert as_member.put(f"/saes/add/{checkpoint.pk}/files/1/?offset=0", CONTENT).status_code == 400


def test_pieces_are_limited(as_member: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = begun(as_member)
    assert send(as_member, checkpoint, CONTENT + b"more").status_code == 413
    monkeypatch.setattr(uploads, "MAX_PIECE", 100)
    assert send(as_member, checkpoint, CONTENT[:101]).status_code == 413
    assert uploads.received(checkpoint, 0) == 0


def test_a_storage_that_fails_loses_nothing(as_member: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = begun(as_member)

    def away(path: Path, name: str) -> str:
        path.unlink()
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(files, "hand_over", away)
        answer = send(as_member, checkpoint, CONTENT)
    assert (answer.status_code, "No space left" in answer.json()["error"]) == (507, True)
    assert send(as_member, checkpoint, b"", len(CONTENT)).json()["state"] == "waiting"


def test_only_its_owner_and_staff_send_pieces(as_member: Client, as_owner: Client, as_staff: Client) -> None:
    checkpoint = begun(as_member)
    assert send(as_owner, checkpoint, CONTENT[:9]).status_code == 403
    assert as_owner.get(f"/saes/add/{checkpoint.pk}/files/").status_code == 403
    assert send(Client(), checkpoint, CONTENT[:9]).status_code == 302
    assert send(as_staff, checkpoint, CONTENT[:9]).status_code == 200


def test_a_piece_needs_the_token_of_the_page(as_member: Client) -> None:
    checkpoint = begun(as_member)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = as_member.cookies
    assert send(strict, checkpoint, CONTENT[:9]).status_code == 403
    strict.get("/saes/add/")
    token = strict.cookies["csrftoken"].value
    assert send(strict, checkpoint, CONTENT[:9], headers={"X-CSRFToken": token}).status_code == 200


def test_whole_files_come_in_an_ordinary_form(as_member: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "MAX_PIECE", 500)
    sent = [SimpleUploadedFile("cfg.json", b"{}"), SimpleUploadedFile("sae_weights.safetensors", CONTENT)]
    answer = as_member.post(FORM, {"files": sent, "layer": "3", "centred": "true"})
    checkpoint = Checkpoint.objects.get()
    assert answer.headers["Location"] == checkpoint.get_absolute_url()
    assert (checkpoint.state, checkpoint.overrides) == ("waiting", {"layer": 3, "centred": True})
    assert (uploads.fetch(checkpoint) / "sae_weights.safetensors").read_bytes() == CONTENT


def test_the_form_has_the_same_limits(as_member: Client, settings: Any) -> None:
    page = as_member.post(FORM, {"files": [SimpleUploadedFile("virus.exe", b"x")]})
    assert (page.status_code, "virus.exe is no file of an SAE" in page.content.decode()) == (422, True)
    assert as_member.post(FORM, {}).status_code == 422
    settings.MAX_SAE_BYTES = 100
    page = as_member.post(FORM, {"files": [SimpleUploadedFile("a.pt", bytes(101))]})
    assert (page.status_code, "more than the 100" in page.content.decode()) == (422, True)
    assert as_member.post(FORM, {"files": [SimpleUploadedFile("a.pt", bytes(2 << 20))]}).status_code == 413
    assert not Checkpoint.objects.exists()


def test_a_form_that_is_too_large_is_not_read(as_member: Client, settings: Any) -> None:
    class Untouched:
        def read(self, *args: int) -> bytes:
            raise AssertionError("it was read")

        readline = read

    large: dict[str, Any] = {
        "CONTENT_LENGTH": str(settings.MAX_SAE_BYTES * 2),
        "CONTENT_TYPE": "multipart/form-data; boundary=x",
    }
    assert as_member.post(FORM, **large | {"wsgi.input": Untouched()}).status_code == 413


def test_names_are_written_as_json_in_the_row_alone(as_member: Client) -> None:
    """In the storage and in uploads/, files go by numbers."""
    checkpoint = begun(as_member, "a <b>&/cfg.json")
    send(as_member, checkpoint, CONTENT)
    stored = [path.name for path in Path(settings.VAR_DIR).rglob("*") if path.is_file()]
    assert len(stored) == 1
    assert re.fullmatch(r"0-[0-9a-f]{12}", stored[0])
    assert "a &lt;b&gt;&amp;" in as_member.get(checkpoint.get_absolute_url()).content.decode()
