"""Digests of files: exact, worked out once, and never of a file as it was."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.engine import digests
from jobs.engine.digests import file_sha256, weights_sha256


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, for files that were written just now."""
    monkeypatch.setenv("FEATURESCOPE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(digests, "SETTLED_NS", -1)
    return tmp_path / "cache/digests.json"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    return path


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are hashed from now on."""
    seen: list[str] = []
    hash_files = digests._hash

    def spy(*files: Path, names: bool = False) -> str:
        seen.extend(file.name for file in files)
        return hash_files(*files, names=names)

    monkeypatch.setattr(digests, "_hash", spy)
    return seen


def test_digests_are_what_they_say(tmp_path: Path, file: Path) -> None:
    assert file_sha256(file) == hashlib.sha256(b"abc").digest()
    other = tmp_path / "other"
    other.write_bytes(b"x" * (digests.BLOCK + 1))
    expected = hashlib.sha256(b"fileabc" + b"other" + other.read_bytes()).hexdigest()
    assert weights_sha256([file, other]) == weights_sha256([file, other]) == expected
    assert weights_sha256([file]) == hashlib.sha256(b"fileabc").hexdigest()


def test_a_file_is_read_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = reads(monkeypatch)
    link = file.with_name("link")
    link.symlink_to(file)
    assert file_sha256(file) == file_sha256(file) == file_sha256(link)
    assert seen == ["file"]
    assert weights_sha256([file]) != weights_sha256([link])  # the same bytes under another name
    assert seen == ["file", "file", "link"]


@pytest.mark.parametrize("how", ["written", "replaced", "same time"])
def test_a_changed_file_is_read_again(file: Path, how: str) -> None:
    file_sha256(file)
    before = file.stat()
    if how == "replaced":
        new = file.with_name("new")
        new.write_bytes(b"abd")
        os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
        new.replace(file)
    else:
        while file.stat().st_ctime_ns == before.st_ctime_ns:  # the clock of the file system ticks
            file.write_bytes(b"abd")
            if how == "same time":
                os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file_sha256(file) == hashlib.sha256(b"abd").digest()


def test_what_was_written_just_now_is_not_remembered(file: Path, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "SETTLED_NS", 3600 * 10**9)
    file_sha256(file)
    assert not memory.exists()


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b" " * (digests.MAX_CACHE_BYTES + 1)]
)
def test_a_damaged_memory_is_forgotten(file: Path, memory: Path, damage: bytes) -> None:
    memory.parent.mkdir()
    memory.write_bytes(damage)
    assert file_sha256(file) == hashlib.sha256(b"abc").digest()
    assert len(json.loads(memory.read_text())) == 1


def test_a_line_that_is_no_digest_is_not_believed(file: Path, memory: Path) -> None:
    file_sha256(file)
    memory.write_text(json.dumps(dict.fromkeys(json.loads(memory.read_text()), "abc")))
    assert file_sha256(file) == hashlib.sha256(b"abc").digest()


def test_the_memory_is_bounded(file: Path, memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digests, "MAX_REMEMBERED", 3)
    paths = [file.with_name(f"file {i}") for i in range(5)]
    for path in paths:
        path.write_bytes(b"abc")
        file_sha256(path)
    seen = reads(monkeypatch)
    assert len(json.loads(memory.read_text())) == 3
    for path in reversed(paths):
        file_sha256(path)
    assert seen == ["file 1", "file 0"]


def test_a_cache_that_cannot_be_written(file: Path, memory: Path) -> None:
    memory.parent.write_text("a file where the folder should be")
    assert file_sha256(file) == hashlib.sha256(b"abc").digest()


def test_many_at_once(file: Path, memory: Path) -> None:
    paths = [file.with_name(f"file {i}") for i in range(20)]
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(file_sha256, paths))
    assert found == [hashlib.sha256(bytes([i])).digest() for i in range(20)]
    known = json.loads(memory.read_text())
    assert 0 < len(known) <= 20
    assert [path.name for path in memory.parent.iterdir()] == ["digests.json"]


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        file_sha256(tmp_path / "nothing")
