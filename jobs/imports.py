"""Writes to imports: added, read again, deleted; and the one way in which their files are opened."""

import math
import shutil
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.template.defaultfilters import filesizeformat

from jobs import files
from jobs.catalogue import NotUsable, clip
from jobs.models import Import
from jobs.tasks import ask_to_import
from jobs.transfer.tree import SUFFIXES, Tree, open_path, open_stored

ROOT = "imports"
MAX_FILES = settings.DATA_UPLOAD_MAX_NUMBER_FILES or 100  # that Django takes in one form
KEPT = 24 * 3600.0  # seconds
ACCEPTED = (*SUFFIXES, ".zip")


def add_path(path: Path, name: str, owner: Any, *, ask: bool = True) -> Import:
    """A path that the workers can read. With ``ask``, a worker is told of it."""
    row = Import.objects.create(name=(name or path.name or str(path))[:200], source=str(path), owner=owner)
    if ask:
        _ask(row.pk)
    return row


def add_upload(sent: Sequence[UploadedFile], name: str, owner: Any) -> Import:
    """Files of one form, put into the storage. Raises NotUsable and OSError, with nothing left behind."""
    listed = _checked(sent)
    place = files.unique(str(int(time.time())))
    try:
        for number, (file, about) in enumerate(zip(sent, listed, strict=True)):
            about["stored"] = default_storage.save(f"{ROOT}/{place}/{files.unique(str(number))}", file)
        row = Import.objects.create(name=(name or listed[0]["name"])[:200], place=place, files=listed, owner=owner)
    except BaseException:
        files.delete_folder(f"{ROOT}/{place}")
        raise
    _ask(row.pk)
    return row


def _checked(sent: Sequence[UploadedFile]) -> list[dict[str, Any]]:
    """Names are kept to be shown: two of one name get numbers."""
    if not sent:
        raise NotUsable("Choose at least one file.")
    if len(sent) > MAX_FILES:
        raise NotUsable(f"{len(sent):,} files are more than the {MAX_FILES:,} that one import may have: send a .zip.")
    total = sum(file.size or 0 for file in sent)
    if total > settings.MAX_IMPORT_BYTES:
        limit = filesizeformat(settings.MAX_IMPORT_BYTES)
        raise NotUsable(f"The files are {filesizeformat(total)} in all, more than the {limit} that may be sent here.")
    listed, seen = [], set()
    for number, file in enumerate(sent):
        name = file.name or "unnamed"
        if not name.lower().endswith(ACCEPTED) or not name.isprintable() or len(name) > 200:
            raise NotUsable(f"{clip(name)} is no file that is read here: those end in {', '.join(ACCEPTED)}.")
        if name.lower().endswith(".zip") and len(sent) > 1:
            raise NotUsable("A .zip is imported alone: send its other files in it, or one by one.")
        shown = f"{number + 1}/{name}" if name in seen else name
        seen.add(name)
        listed.append({"name": shown, "bytes": file.size or 0, "stored": ""})
    return listed


def opened(row: Import) -> AbstractContextManager[Tree]:
    """Its files. Raises NotAnExport and OSError."""
    return open_path(Path(row.source)) if row.source else open_stored(row.files)


def read_again(row: Import) -> bool:
    if not Import.objects.read_again(row.pk):
        return False
    _ask(row.pk)
    return True


def delete(row: Import) -> None:
    """The row and the files of an upload. What was imported stays, and so does what lies at a path."""
    row.delete()
    if row.place:
        files.delete_folder(f"{ROOT}/{row.place}")


def unread() -> list[int]:
    """Those that wait for a worker, with those that have lost theirs."""
    Import.objects.put_back()
    return list(Import.objects.waiting().values_list("pk", flat=True))


def clear() -> None:
    """Delete what no import needs any more: scratch files of those that ended, uploads of rows that are gone."""
    if scratch_root().is_dir():
        here = {path.name for path in scratch_root().iterdir() if path.name.isdecimal()}
        live = Import.objects.filter(state__in=[Import.State.WAITING, Import.State.READING])
        for name in here - {str(pk) for pk in live.values_list("pk", flat=True)}:
            shutil.rmtree(scratch_root() / name, ignore_errors=True)
    try:
        there = set(default_storage.listdir(ROOT)[0])  # before the rows: those that come meanwhile are not among them
    except FileNotFoundError:
        return
    for place in there - set(Import.objects.values_list("place", flat=True)):
        if _age(place) > KEPT:  # a form may still be coming in
            files.delete_folder(f"{ROOT}/{place}")


def _age(place: str) -> float:
    """Seconds since the files of an upload began to be stored."""
    began = place.split("-", maxsplit=1)[0]
    return time.time() - int(began) if began.isdecimal() else math.inf


def scratch(pk: int) -> Path:
    return scratch_root() / str(pk)


def scratch_root() -> Path:
    return Path(settings.VAR_DIR) / "imports"


def _ask(pk: int) -> None:
    transaction.on_commit(lambda: ask_to_import(pk))
