"""The files of an import by their names: of a folder, of a single file, of a .zip, or in the storage.

They are read as streams and never unpacked to the disk; names are used for nothing but to find them again.
"""

import re
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol

from django.core.files.storage import default_storage

from jobs.transfer.faults import NotAnExport
from jobs.transfer.lines import FREE, MAX_RATIO

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
MAX_FILES = 20_000


class Tree(Protocol):
    """``sizes``: bytes of each file, as they are stored, in an order in which numbers count."""

    sizes: dict[str, int]

    def open(self, name: str) -> BinaryIO:
        """Its bytes from the start. Raises OSError."""


@contextmanager
def open_path(path: Path) -> Iterator[Tree]:
    """A folder, a file or a .zip on this machine. Raises NotAnExport and OSError."""
    if path.is_dir():
        yield Folder(path)
    elif zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield Zip(file)
    elif path.is_file():
        yield Folder(path.parent, [path])
    else:
        raise NotAnExport(f"There is nothing at {path}: give the path of a folder, of a file or of a .zip.")


@contextmanager
def open_stored(files: list[dict[str, Any]]) -> Iterator[Tree]:
    """What was uploaded: {name, bytes, stored} each, or a single .zip. Raises NotAnExport and OSError."""
    with ExitStack() as stack:
        if len(files) == 1 and files[0]["name"].lower().endswith(".zip"):
            yield Zip(stack.enter_context(default_storage.open(files[0]["stored"], "rb")))
        else:
            yield Stored(files)


class Folder:
    """Links are not followed: a folder that somebody unpacked may hold any."""

    def __init__(self, root: Path, only: list[Path] | None = None) -> None:
        self.root = root
        paths = only if only is not None else (p for p in root.rglob("*") if p.is_file() and not p.is_symlink())
        self.sizes = _listed((path.relative_to(root).as_posix(), path.stat().st_size) for path in paths)

    def open(self, name: str) -> BinaryIO:
        return (self.root / name).open("rb")


class Zip:
    def __init__(self, file: Any) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, OSError, ValueError) as error:
            raise NotAnExport("It is no .zip, or was not copied whole.") from error
        members = [m for m in self._zip.infolist() if not m.is_dir()]
        for member in members:
            _check_member(member)
        self._members = {member.filename: member for member in members}
        self.sizes = _listed((member.filename, member.file_size) for member in members)

    def open(self, name: str) -> BinaryIO:
        try:
            return self._zip.open(self._members[name])  # type: ignore[return-value]
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
            raise OSError(f"{name} cannot be read from the .zip: {error}") from error


class Stored:
    def __init__(self, files: list[dict[str, Any]]) -> None:
        self._names = {file["name"]: file["stored"] for file in files}
        self.sizes = _listed((file["name"], file["bytes"]) for file in files)

    def open(self, name: str) -> BinaryIO:
        return default_storage.open(self._names[name], "rb")  # type: ignore[return-value]


def _check_member(member: zipfile.ZipInfo) -> None:
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or not member.filename.isprintable():
        raise NotAnExport("The .zip holds a name that leads out of its folder: make it anew from the folder itself.")
    if member.flag_bits & 1:
        raise NotAnExport("The .zip is encrypted: send one without a password.")
    if member.file_size > FREE + MAX_RATIO * member.compress_size:
        raise NotAnExport(f"{member.filename} unpacks to more than {MAX_RATIO} times its size: no export does.")


def _listed(files: Iterable[tuple[str, int]]) -> dict[str, int]:
    found = {}
    for name, size in files:
        if name.lower().endswith(SUFFIXES) and not any(part.startswith((".", "__")) for part in name.split("/")):
            found[name] = size
        if len(found) > MAX_FILES:
            raise NotAnExport(f"It holds more than {MAX_FILES:,} files: import one source at a time.")
    if not found:
        raise NotAnExport(f"It holds none of the files that are read here: those end in {', '.join(SUFFIXES)}.")
    return {name: found[name] for name in sorted(found, key=_natural)}


def _natural(name: str) -> list[tuple[int, str]]:
    """batch-2 before batch-10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d{1,18})", name)]
