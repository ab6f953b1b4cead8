"""The pages of imports: who may do what, what they say, and that nothing from a file is more than text there."""

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client, override_settings
from redis import Redis

from features.models import Run
from jobs import imports, sweep, tasks
from jobs.models import Import, Job
from jobs.models.transfer import MAX_LOST_READING
from tests.factories import HOSTILE, OVERRIDE, World
from tests.jobs.test_models import long_ago
from tests.jobs.transfer.made import activation, explanation, exported, feature, imported, write_folder, write_lines

pytestmark = pytest.mark.django_db
State = Import.State


@pytest.fixture(autouse=True)
def _no_files_are_left() -> Iterator[None]:
    yield
    for row in Import.objects.all():
        imports.delete(row)
    imports.clear()


def sent(name: str, records: list[Any]) -> SimpleUploadedFile:
    return SimpleUploadedFile(name, b"".join(json.dumps(record).encode() + b"\n" for record in records))


def test_files_are_uploaded_and_read(as_member: Client, member: User, broker: Redis) -> None:
    files = [sent("f.jsonl", [feature(0)]), sent("a.jsonl", [activation(0, [" a"], [1.0])])]
    answer = as_member.post("/import/", {"files": files, "name": "of mine"})
    row = Import.objects.get()
    assert (answer.status_code, answer.headers["Location"]) == (302, f"/import/{row.pk}/")
    assert (row.state, row.owner, row.name) == (State.WAITING, member, "of mine")
    assert "Waiting for a worker" in as_member.get(f"/import/{row.pk}/state/").content.decode()
    tasks.read_import(row.pk)
    row.refresh_from_db()
    assert (row.state, row.n_new) == (State.DONE, 1)
    assert row.run is not None
    assert row.run.sae.name == "of mine"
    state = as_member.get(f"/import/{row.pk}/state/")
    assert state.headers["HX-Refresh"] == "true"
    page = as_member.get(f"/import/{row.pk}/").content.decode()
    assert f'href="/runs/{row.run.pk}/"' in page
    assert "It is here." in page
    assert row.get_absolute_url() in as_member.get("/import/").content.decode()


def test_a_zip_is_read_as_its_folder(as_member: Client, tmp_path: Path) -> None:
    write_folder(tmp_path / "v1/gpt2-small/6-res-jb")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(tmp_path.rglob("*.*")):
            if path.is_file():
                archive.write(path, path.relative_to(tmp_path))
    as_member.post("/import/", {"files": SimpleUploadedFile("all.zip", packed.getvalue())})
    row = Import.objects.get()
    tasks.read_import(row.pk)
    row.refresh_from_db()
    assert (row.state, row.n_new, row.n_refused) == (State.DONE, 6, 0)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("../../f.jsonl", b"{}", "leads out of its folder"),
        ("/etc/f.jsonl", b"{}", "leads out of its folder"),
        ("f.jsonl", b" " * (200 << 20), "times its size"),
        ("f.txt", b"", "none of the files"),
    ],
)
def test_a_zip_that_means_no_good_is_refused(as_member: Client, name: str, content: bytes, why: str) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    as_member.post("/import/", {"files": SimpleUploadedFile("all.zip", packed.getvalue())})
    row = Import.objects.get()
    tasks.read_import(row.pk)
    row.refresh_from_db()
    assert row.state == State.REFUSED
    assert why in row.error


def test_what_cannot_be_taken_is_told(as_member: Client) -> None:
    for files, why in (
        ([], "Choose at least one file"),
        ([SimpleUploadedFile("a<b>.exe", b"x")], "a&lt;b&gt;.exe is no file that is read here"),
        ([SimpleUploadedFile("a.zip", b"x"), SimpleUploadedFile("b.json", b"x")], "A .zip is imported alone"),
    ):
        answer = as_member.post("/import/", {"files": files, "name": "kept"})
        assert answer.status_code == 422
        assert why in answer.content.decode()
        assert 'value="kept"' in answer.content.decode()
    answer = as_member.post("/import/", {"files": [sent(f"{i}.jsonl", []) for i in range(imports.MAX_FILES + 1)]})
    assert (answer.status_code, "send a .zip" in answer.content.decode()) == (413, True)
    with override_settings(MAX_IMPORT_BYTES=10):
        answer = as_member.post("/import/", {"files": sent("a.jsonl", [feature(0)])})
        assert (answer.status_code, "more than the" in answer.content.decode()) == (422, True)
        answer = as_member.post("/import/", {"files": sent("a.jsonl", [feature(0)] * 4000)})
        assert answer.status_code == 413
    assert not Import.objects.exists()
    assert not default_storage.exists("imports") or not default_storage.listdir("imports")[0]


def test_only_staff_name_paths(as_member: Client, as_staff: Client, tmp_path: Path, broker: Redis) -> None:
    write_folder(tmp_path)
    answer = as_member.post("/import/", {"path": str(tmp_path)})
    assert (answer.status_code, "only an administrator may give a path" in answer.content.decode()) == (403, True)
    assert 'name="path"' not in as_member.get("/import/").content.decode()
    relative = as_staff.post("/import/", {"path": "a/b"})
    assert (relative.status_code, "give it in full" in relative.content.decode()) == (422, True)
    assert not Import.objects.exists()
    assert as_staff.post("/import/", {"path": str(tmp_path)}).status_code == 302
    tasks.read_import(Import.objects.get().pk)
    assert Import.objects.get().n_new == 6


def test_nothing_is_written_without_the_token(member: User) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(member)
    assert client.post("/import/", {"files": sent("a.jsonl", [feature(0)])}).status_code == 403
    assert not Import.objects.exists()


def test_others_look_but_do_not_change(as_owner: Client, as_member: Client, member: User, as_staff: Client) -> None:
    row = Import.objects.create(name="mine", owner=member, source="/x", state=State.REFUSED, error="no")
    page = as_owner.get(f"/import/{row.pk}/").content.decode()
    assert "Only member and administrators may have it read again" in page
    for what in ("read", "delete"):
        assert as_owner.post(f"/import/{row.pk}/{what}/").status_code == 403
        assert as_owner.get(f"/import/{row.pk}/{what}/").status_code == 405
    assert as_member.post(f"/import/{row.pk}/read/").status_code == 302
    row.refresh_from_db()
    assert (row.state, row.error) == (State.WAITING, "")
    assert as_staff.post(f"/import/{row.pk}/delete/").status_code == 302
    assert not Import.objects.exists()
    assert as_owner.get(f"/import/{row.pk}/").status_code == 404


@pytest.mark.parametrize("address", ["/import/", "/import/1/", "/import/1/state/", "/runs/1/export/"])
def test_outsiders_are_sent_away(anonymous: Client, address: str) -> None:
    answer = anonymous.get(address)
    assert (answer.status_code, answer.headers["Location"].split("?")[0]) == (302, "/login/")


def test_pages_cost_few_queries(as_member: Client, django_assert_max_num_queries: Any) -> None:
    for number in range(20):
        Import.objects.create(name=f"n{number}", source="/x", faults=[{"file": "f", "line": 1, "why": "w"}] * 100)
    for address in ("/import/", f"/import/{Import.objects.latest('pk').pk}/"):
        with django_assert_max_num_queries(6):
            assert as_member.get(address).status_code == 200


def test_text_from_files_is_text(as_member: Client, tmp_path: Path) -> None:
    bad = HOSTILE + OVERRIDE
    about = {"modelId": bad, "layer": f"6-{bad}"}
    write_lines(
        tmp_path / "f.jsonl",
        [feature(0, pos_str=[bad, "b"], hookName=bad, **about), feature(1, modelId=bad * 3, layer="6-x")],
    )
    write_lines(tmp_path / "a.jsonl", [activation(0, [bad, " x"], [2.0, 0.0], dataSource=bad, dataIndex=bad, **about)])
    words = {"typeName": bad, "explanationModelName": bad, "authorId": bad}
    write_lines(tmp_path / "e.jsonl", [explanation(0, HOSTILE, **words, **about)])
    write_lines(tmp_path / "model.jsonl", [{"displayName": bad}])
    write_lines(tmp_path / "source.jsonl", [{"dataset": bad}])
    row = imported(tmp_path, name=bad)
    assert row.state == State.DONE
    run = row.run
    assert run is not None
    home = run.sae.get_absolute_url()
    pages = [f"{home}features/0/", home, f"{home}features/", f"/runs/{run.pk}/", f"/import/{row.pk}/", "/import/"]
    pages += [run.sae.model.get_absolute_url(), "/", f"{home}features/0/contexts/0/"]
    for address in pages:
        answer = as_member.get(address)
        assert answer.status_code == 200, address
        assert HOSTILE not in answer.content.decode(), address
        assert OVERRIDE not in answer.content.decode(), address
    assert "&lt;script&gt;" in as_member.get(pages[0]).content.decode()
    name = as_member.get(f"/runs/{run.pk}/export/").headers["Content-Disposition"]
    assert name.isascii()
    assert name.count('"') == 2


def test_text_of_our_own_notes_is_text(as_member: Client, world: World, tmp_path: Path) -> None:
    """Whoever sends an export may have written anything into it."""
    bad, kept = HOSTILE + OVERRIDE, {"format", "origin", "created_at"}

    def spoiled(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: spoiled(inner, name) for name, inner in value.items()} | ({bad: bad} if key else {})
        return bad if isinstance(value, str) and key not in kept else value

    folder = exported(world.run, tmp_path)
    (note,) = folder.rglob("featurescope.json")
    about = spoiled(json.loads(note.read_text()))
    about["run"] |= {"valid": False, "why_not_valid": f"{bad}\n{bad}", "settings": {"skip_first": bad}, "seed": bad}
    note.write_text(json.dumps(about))
    row = imported(folder)
    assert (row.state, row.error) == (State.DONE, "")
    run = row.run
    assert run is not None
    home = run.sae.get_absolute_url()
    for address in (home, f"{home}features/", f"/runs/{run.pk}/", run.sae.model.get_absolute_url(), "/", "/models/"):
        answer = as_member.get(address)
        assert answer.status_code == 200, address
        assert HOSTILE not in answer.content.decode(), address
        assert OVERRIDE not in answer.content.decode(), address


def test_pages_of_an_import_say_what_is_not_known(as_member: Client, tmp_path: Path) -> None:
    run = imported(write_lines(tmp_path / "f.jsonl", [feature(0), feature(1, frac_nonzero=0.0)])).run
    assert run is not None
    home = run.sae.get_absolute_url()
    for address in (home, f"/runs/{run.pk}/", f"{home}features/", f"{home}features/0/", f"{home}features/1/", "/"):
        page = as_member.get(address).content.decode()
        assert "NOT VALID" not in page, address
        assert ">None<" not in page, address
        assert not re.search(r"(?<!\d)0 tokens", page), address


def test_what_is_not_here_is_not_offered_for_extractions(as_staff: Client, tmp_path: Path) -> None:
    row = imported(write_folder(tmp_path))
    assert row.run is not None
    page = as_staff.get("/jobs/new/").content.decode()
    assert row.run.sae.slug not in page
    assert row.run.corpus.slug not in page
    answer = as_staff.post("/jobs/new/", {"sae_path": row.run.sae.slug, "model_path": row.run.sae.model.slug})
    assert (answer.status_code, Job.objects.count()) == (422, 0)
    assert "this one was imported" in answer.content.decode()


def test_what_lost_its_worker_is_read_by_another(broker: Redis, tmp_path: Path) -> None:
    row = imports.add_path(write_folder(tmp_path), "", None, ask=False)
    for n_lost in range(1, MAX_LOST_READING + 1):
        assert Import.objects.claim(row.pk, "killed")
        assert not Import.objects.claim(row.pk, "other")
        sweep.sweep(clean=False)
        assert Import.objects.get().state == State.READING
        Import.objects.update(heartbeat_at=long_ago())
        sweep.sweep(clean=False)
        row.refresh_from_db()
        assert row.state == (State.WAITING if n_lost < MAX_LOST_READING else State.REFUSED)
    assert broker.llen("default") == 1  # not one for each sweep
    assert "3 workers were lost" in row.error
    assert imports.read_again(row)
    tasks.read_import(row.pk)
    assert Run.objects.count() == 1
    tasks.read_import(row.pk + 1)  # it may be gone


def test_what_no_row_needs_is_deleted(as_member: Client, tmp_path: Path) -> None:
    as_member.post("/import/", {"files": sent("f.jsonl", [feature(0)])})
    kept = Import.objects.get().place
    old, young = "1000000000-abc", f"{9**10}-abc"
    for place in (old, young):
        default_storage.save(f"imports/{place}/0-x", SimpleUploadedFile("x", b"x"))
    (imports.scratch(999)).mkdir(parents=True)
    (imports.scratch(Import.objects.get().pk)).mkdir(parents=True)
    imports.clear()
    assert set(default_storage.listdir("imports")[0]) == {kept, young}
    assert [path.name for path in imports.scratch_root().iterdir()] == [str(Import.objects.get().pk)]
    default_storage.delete(f"imports/{young}/0-x")
