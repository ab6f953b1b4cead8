"""Files of a job: those that workers hand to each other, in Django's default storage, and each machine's own scratch.

    jobs/<id>/<identity>/...    in the storage: a folder all workers see, or a bucket
    VAR_DIR/scratch/<id>/...    on this machine alone

A file counts once its name is in the database. Names are never used twice, so nobody writes over anybody's file.
"""

import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings
from django.core.files import File
from django.core.files.storage import default_storage

ROOT = "jobs"


class _Movable(File):  # type: ignore[type-arg]
    """A file that a storage on the same disk may simply rename into its place, whole at once."""

    def temporary_file_path(self) -> str:
        return str(self.name)


def folder(job_id: int, identity: str) -> str:
    return f"{ROOT}/{job_id}/{identity}"


def unique(text: str) -> str:
    return f"{text}-{secrets.token_hex(6)}"


def hand_over(path: Path, name: str) -> str:
    """Store ``path``, which is gone afterwards. Returns the name under which it is found."""
    try:
        with path.open("rb") as file:
            return default_storage.save(name, _Movable(file, name=str(path)))
    finally:
        path.unlink(missing_ok=True)


def store(path: Path, name: str) -> str:
    """Store a copy of ``path``. Returns the name under which it is found."""
    with path.open("rb") as file:
        return default_storage.save(name, File(file))


@contextmanager
def reading(name: str, scratch: Path) -> Iterator[Path]:
    """A stored file on this machine's disk: where it lies, or copied into ``scratch`` for as long as it is read.

    Raises FileNotFoundError.
    """
    if (here := _local_path(name)) is not None:
        yield here
        return
    scratch.mkdir(parents=True, exist_ok=True)
    path = scratch / unique("fetched")
    try:
        _fetch(name, path)
        yield path
    finally:
        path.unlink(missing_ok=True)


def fetch_folder(names: dict[str, str], sizes: dict[str, int], into: Path) -> None:
    """Have the stored files ``names`` (file name: stored name) as the folder ``into``, unless it is there and whole."""
    if _is_whole(into, sizes):
        return
    aside = into.with_name(unique(f".{into.name}"))
    aside.mkdir(parents=True)
    try:
        for file, name in names.items():
            _fetch(name, aside / file)
        if not _is_whole(aside, sizes):
            raise OSError(f"The files {', '.join(names.values())} are not as long as they were when they were stored.")
        shutil.rmtree(into, ignore_errors=True)
        put_in_place(aside, into)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def put_in_place(aside: Path, into: Path) -> None:
    """Rename a folder, unless another process was quicker with the same."""
    try:
        aside.rename(into)
    except OSError:
        if not into.is_dir():
            raise
        shutil.rmtree(aside, ignore_errors=True)


def delete(names: Sequence[str]) -> None:
    for name in names:
        default_storage.delete(name)


def delete_folder(name: str) -> None:
    """Delete a stored folder and all that is in it."""
    with suppress(FileNotFoundError):
        folders, files = default_storage.listdir(name)
        for file in files:
            default_storage.delete(f"{name}/{file}")
        for inner in folders:
            delete_folder(f"{name}/{inner}")
        with suppress(OSError):  # somebody has just put a file there
            default_storage.delete(name)


def delete_job(job_id: int) -> None:
    """Everything of the job, in the storage and on this machine."""
    shutil.rmtree(scratch(job_id), ignore_errors=True)
    delete_folder(f"{ROOT}/{job_id}")


def folders_of(job_id: int) -> list[str]:
    """The identities of which the job has stored files."""
    try:
        return default_storage.listdir(f"{ROOT}/{job_id}")[0]
    except FileNotFoundError:
        return []


def stored_jobs() -> list[int]:
    """The jobs that have files in the storage."""
    try:
        return [int(name) for name in default_storage.listdir(ROOT)[0] if name.isdecimal()]
    except FileNotFoundError:
        return []


def scratch_jobs() -> list[int]:
    """The jobs that have files on this machine alone."""
    with suppress(FileNotFoundError):
        return [int(name) for name in os.listdir(scratch_root()) if name.isdecimal()]  # noqa: PTH208
    return []


def scratch(job_id: int) -> Path:
    return scratch_root() / str(job_id)


def scratch_root() -> Path:
    return Path(settings.VAR_DIR) / "scratch"


def _local_path(name: str) -> Path | None:
    try:
        return Path(default_storage.path(name))
    except NotImplementedError:
        return None


def _fetch(name: str, path: Path) -> None:
    with default_storage.open(name, "rb") as stored, path.open("wb") as file:
        shutil.copyfileobj(stored, file, 1 << 20)


def _is_whole(folder: Path, sizes: dict[str, int]) -> bool:
    return folder.is_dir() and all(
        (folder / file).is_file() and (folder / file).stat().st_size == size for file, size in sizes.items()
    )
