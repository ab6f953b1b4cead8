"""Receiving the files of a checkpoint in pieces: each is written where the last one ended, as it comes in.

    VAR_DIR/uploads/<place>/<number>.part    as many bytes as are here: an upload that breaks off goes on from there

A file that is whole moves to the storage, where every worker finds it, and is then ``stored``.
"""

import fcntl
import os
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedIOBase
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from django.conf import settings
from django.core.files.storage import default_storage
from django.template.defaultfilters import filesizeformat

from jobs import files
from jobs.catalogue import NotUsable, clip
from jobs.models import Checkpoint

SUFFIXES = (".json", ".safetensors", ".npz", ".pt", ".pth", ".yaml")
MAX_FILES = 64
MAX_NAME = 200
MAX_PIECE = 8 << 20
READ_AT_ONCE = 1 << 18


class Stream(Protocol):
    def read(self, size: int, /) -> bytes: ...


class OutOfPlace(Exception):
    """The file does not end where the piece is to begin, or somebody else is writing to it."""


def check(listed: Any) -> list[dict[str, Any]]:
    """What a browser says it will send, as ``Checkpoint.files`` has it. Raises NotUsable."""
    if not isinstance(listed, list) or not listed:
        raise NotUsable("Choose at least one file.")
    if len(listed) > MAX_FILES:
        raise NotUsable(f"{len(listed):,} files are more than the {MAX_FILES} that one SAE may have.")
    found = [_checked(file) for file in listed]
    _check_together([file["name"] for file in found])
    total = sum(file["bytes"] for file in found)
    if total > settings.MAX_SAE_BYTES:
        limit = filesizeformat(settings.MAX_SAE_BYTES)
        raise NotUsable(f"The files are {filesizeformat(total)} in all, more than the {limit} that may be sent here.")
    folder("").mkdir(parents=True, exist_ok=True)
    if total > shutil.disk_usage(folder("")).free:
        raise NotUsable(f"The server's disk has no room for {filesizeformat(total)}: ask whoever runs it.")
    return found


def check_name(name: object) -> str:
    """A file's name with the folders above it, as safe to write. Raises NotUsable."""
    if not isinstance(name, str) or not name:
        raise NotUsable("A file has no name.")
    if len(name) > MAX_NAME:
        raise NotUsable(f"{clip(name[:60])}…: its name is longer than {MAX_NAME} characters; choose a shorter one.")
    if not name.isprintable() or "\\" in name:
        raise NotUsable(f"{clip(name)}: its name holds characters that no file of an SAE has; rename it.")
    parts = name.split("/")
    if any(not part or part.startswith(".") or len(part.encode()) > MAX_NAME for part in parts):
        raise NotUsable(f"{clip(name)}: its name is absolute, hidden or leads out of its folder; rename it.")
    if not name.lower().endswith(SUFFIXES):
        raise NotUsable(f"{clip(name)} is no file of an SAE: those end in {', '.join(SUFFIXES)}.")
    return name


def load_path(folder: Path, names: list[str]) -> Path:
    """Where in ``folder`` the SAE is: a bare .pt or .pth, else the innermost folder that holds all of the files."""
    paths = [PurePosixPath(name) for name in names]
    if len(paths) == 1 and paths[0].suffix in {".pt", ".pth"}:
        return folder / paths[0]
    return folder / os.path.commonpath([path.parent for path in paths])


def received(checkpoint: Checkpoint, number: int) -> int:
    """How many bytes of the file are here."""
    file = checkpoint.files[number]
    if file["stored"]:
        return int(file["bytes"])
    try:
        return _part(checkpoint, number).stat().st_size
    except FileNotFoundError:
        return 0


def receive(checkpoint: Checkpoint, number: int, offset: int, length: int, stream: Stream) -> str:
    """Write a piece of ``length`` bytes at ``offset``. Returns the file's name in the storage if that was all of it.

    A piece of 0 bytes at the end is no fault: it asks for a file that is whole to be stored. What came before a
    connection broke stays. Raises OutOfPlace, OSError, and NotUsable for a piece that is too long.
    """
    name, size = checkpoint.files[number]["name"], checkpoint.files[number]["bytes"]
    if not 0 <= length <= MAX_PIECE:
        raise NotUsable(f"{name}: a piece of it has at most {MAX_PIECE:,} bytes, not {length:,}.")
    if offset + length > size:
        raise NotUsable(f"{name} was announced with {size:,} bytes, and more are coming: has it changed since?")
    with _locked(_part(checkpoint, number)) as file:
        there = os.fstat(file.fileno()).st_size
        if there != offset or checkpoint.files[number]["stored"]:
            raise OutOfPlace
        while length and (block := stream.read(min(length, READ_AT_ONCE))):
            file.write(block)
            length -= len(block)
            there += len(block)
        file.flush()
        return _keep(checkpoint, number) if there == size else ""


def _keep(checkpoint: Checkpoint, number: int) -> str:
    """Move a file that is whole to the storage."""
    part = _part(checkpoint, number)
    whole = part.with_suffix(".whole")
    whole.unlink(missing_ok=True)
    os.link(part, whole)  # handing over takes a file away even where it fails: this name may go
    name = files.hand_over(whole, f"{stored_folder(checkpoint.place)}/{files.unique(str(number))}")
    part.unlink()
    return name


def fetch(checkpoint: Checkpoint) -> Path:
    """Have the files on this machine, in their folders. Returns where the SAE is."""
    root, by_folder = fetched(checkpoint.place), defaultdict(list)
    for file in checkpoint.files:
        by_folder[PurePosixPath(file["name"]).parent].append(file)
    for inner, here in sorted(by_folder.items()):  # a folder before those inside it
        names = {PurePosixPath(file["name"]).name: file["stored"] for file in here}
        sizes = {PurePosixPath(file["name"]).name: file["bytes"] for file in here}
        files.fetch_folder(names, sizes, root / inner)
    return load_path(root, [file["name"] for file in checkpoint.files])


def delete(place: str) -> None:
    """All of an upload that is on this machine or in the storage."""
    shutil.rmtree(folder(place), ignore_errors=True)
    shutil.rmtree(cached(place), ignore_errors=True)
    files.delete_folder(stored_folder(place))


def places() -> set[str]:
    """The uploads of which there is anything, here or in the storage."""
    found: set[str] = set()
    with suppress(FileNotFoundError):
        found |= set(default_storage.listdir(stored_folder(""))[0])
    for root in (folder(""), cached("")):
        if root.is_dir():
            found |= {path.name for path in root.iterdir()}
    return found


def folder(place: str) -> Path:
    return Path(settings.VAR_DIR) / "uploads" / place


def cached(place: str) -> Path:
    return Path(settings.VAR_DIR) / "cache" / "saes" / place


def fetched(place: str) -> Path:
    """Where its files are under their own names; beside it they are put together."""
    return cached(place) / "files"


def stored_folder(place: str) -> str:
    return f"saes/{place}".rstrip("/")


def _part(checkpoint: Checkpoint, number: int) -> Path:
    return folder(checkpoint.place) / f"{number}.part"


@contextmanager
def _locked(path: Path) -> Iterator[BufferedIOBase]:
    """Open to append, for one writer at a time: a second one is told where the file ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OutOfPlace from error
        yield file


def _checked(file: object) -> dict[str, Any]:
    if not isinstance(file, dict):
        raise NotUsable("Every file needs a name and a size.")
    name, size, modified = check_name(file.get("name")), file.get("bytes"), file.get("modified")
    if type(size) is not int or not 0 < size < 1 << 62:
        raise NotUsable(f"{name} is empty, or its size is not known.")
    known = modified if type(modified) is int and 0 <= modified < 1 << 62 else 0
    return {"name": name, "bytes": size, "modified": known, "stored": ""}


def _check_together(names: list[str]) -> None:
    """No two files in one place, and none where another has a folder."""
    seen: set[str] = set()
    for name in names:
        if name.casefold() in seen:
            raise NotUsable(f"{name} is there twice.")
        seen.add(name.casefold())
    for name in names:
        if above := next((p for p in PurePosixPath(name).parents if str(p).casefold() in seen), None):
            raise NotUsable(f"{above} is a file and a folder at once.")
