"""Writes to checkpoints, and how what a request names becomes files on this machine.

An SAE is named by its slug, a full path, ``checkpoint:ID`` or a hub id; ``locate`` is for all but the first.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from jobs import files, uploads
from jobs.catalogue import NotUsable, checkpoint_id
from jobs.engine import hub
from jobs.engine.errors import SettingsError
from jobs.models import Checkpoint
from jobs.requests import MAX_PLACE
from jobs.tasks import ask_to_read

MAX_UNFINISHED = 8  # uploads of one person
KEPT = timedelta(days=7)  # what was sent of an upload that nobody goes on with
OVERRIDES = ("k", "layer", "hook", "centred", "hook_out")
OnProgress = Callable[[int, int], object]  # bytes fetched, bytes to fetch


@dataclass(frozen=True)
class Located:
    """``source``: the lasting name of what lies at ``path``, for a cache is no place to remember."""

    path: Path
    source: str
    revision: str = ""


def add_upload(listed: Any, overrides: dict[str, Any], owner: Any) -> Checkpoint:
    """A row that waits for the files that a browser has announced. Raises NotUsable."""
    announced = uploads.check(listed)
    if Checkpoint.objects.receiving().filter(owner=owner).count() >= MAX_UNFINISHED:
        raise NotUsable(f"{MAX_UNFINISHED} of your uploads are unfinished: finish one, or delete it.")
    folder = uploads.load_path(Path(), [file["name"] for file in announced])
    largest = max(announced, key=lambda file: file["bytes"])
    return Checkpoint.objects.create(
        owner=owner,
        name=str(folder) if folder.name else largest["name"],
        origin=Checkpoint.Origin.UPLOAD,
        place=files.unique("sae"),
        state=Checkpoint.State.RECEIVING,
        files=announced,
        overrides=given(overrides),
    )


def add_place(place: str, overrides: dict[str, Any], owner: Any) -> Checkpoint:
    """A row for a full path or a hub id, which a worker is asked to read."""
    is_path = place.startswith("/")
    checkpoint = Checkpoint.objects.create(
        owner=owner,
        name="/".join(Path(place).parts[-2:]).lstrip("/")[:200] if is_path else place[:200],
        origin=Checkpoint.Origin.PATH if is_path else Checkpoint.Origin.HUB,
        place=place,
        overrides=given(overrides),
    )
    _ask(checkpoint.pk)
    return checkpoint


def receive(checkpoint: Checkpoint, number: int, offset: int, length: int, stream: uploads.Stream) -> None:
    """A piece of an upload; with its last one, a worker is asked to read it. Raises as ``uploads.receive`` does."""
    if checkpoint.state != Checkpoint.State.RECEIVING:
        raise uploads.OutOfPlace
    Checkpoint.objects.touch(checkpoint.pk)
    stored = uploads.receive(checkpoint, number, offset, length, stream)
    if stored and not _stored(checkpoint.pk, number, stored):
        files.delete([stored])


def receive_whole(checkpoint: Checkpoint, number: int, file: uploads.Stream) -> None:
    """``receive`` for a file that is on this machine already."""
    size = checkpoint.files[number]["bytes"]
    for offset in range(0, size, uploads.MAX_PIECE):
        receive(checkpoint, number, offset, min(uploads.MAX_PIECE, size - offset), file)


def read_again(checkpoint: Checkpoint, overrides: dict[str, Any]) -> bool:
    if not Checkpoint.objects.read_again(checkpoint.pk, given(overrides)):
        return False
    _ask(checkpoint.pk)
    return True


def delete(checkpoint: Checkpoint) -> None:
    """The row and the files of an upload. What a path or a hub id names stays where it is."""
    checkpoint.delete()
    if checkpoint.origin == Checkpoint.Origin.UPLOAD:
        uploads.delete(checkpoint.place)


def given(overrides: dict[str, Any]) -> dict[str, Any]:
    """What was said at all."""
    return {name: overrides[name] for name in OVERRIDES if overrides.get(name) not in (None, "")}


def said_of(place: str) -> dict[str, Any]:
    """What people said of a checkpoint, if it is one."""
    pk = checkpoint_id(place)
    found = None if pk is None else Checkpoint.objects.filter(pk=pk).values_list("overrides", flat=True).first()
    return dict(found or {})


def locate(place: str, on_progress: OnProgress | None = None) -> Located:
    """Have the SAE's files on this machine, fetched where need be. Raises SettingsError and HubError."""
    pk = checkpoint_id(place)
    if pk is None:
        return _at(place, "", on_progress)
    checkpoint = Checkpoint.objects.filter(pk=pk).first()
    if checkpoint is None:
        raise SettingsError(f"The SAE {place} has been deleted: add it again under “Add an SAE”.")
    return fetch(checkpoint, on_progress)


def fetch(checkpoint: Checkpoint, on_progress: OnProgress | None = None) -> Located:
    """``locate`` for a row. A repository is taken at the revision that was read, if one was."""
    if checkpoint.origin != Checkpoint.Origin.UPLOAD:
        found = _at(checkpoint.place, checkpoint.revision, on_progress)
        return Located(found.path, checkpoint.source, found.revision)
    if checkpoint.state == Checkpoint.State.RECEIVING:
        raise SettingsError(f"The SAE {checkpoint.name} has not been sent whole: go on with its upload.")
    return Located(uploads.fetch(checkpoint), checkpoint.source)


def unread() -> list[int]:
    """Those that wait for a worker, with those that have lost theirs."""
    Checkpoint.objects.put_back()
    return list(Checkpoint.objects.filter(state=Checkpoint.State.WAITING).order_by("pk").values_list("pk", flat=True))


def clear() -> None:
    """Delete the uploads that nobody goes on with, and files that belong to no row."""
    for checkpoint in Checkpoint.objects.receiving().filter(updated_at__lt=timezone.now() - KEPT):
        delete(checkpoint)
    there = uploads.places()  # before the rows: those that come meanwhile are not among them
    for place in there - set(Checkpoint.objects.values_list("place", flat=True)):
        uploads.delete(place)


def _at(place: str, revision: str, on_progress: OnProgress | None) -> Located:
    """A path that is there, or a place on a hub."""
    path = Path(place)
    wanted = None if path.is_absolute() or path.exists() else hub.parse(place)
    if wanted is None:
        return Located(path, place)
    wanted = replace(wanted, revision=revision or wanted.revision)
    fetched = hub.fetch(wanted, settings.MAX_SAE_BYTES, on_progress)
    source = str(replace(wanted, revision=fetched.revision))
    if len(source) > MAX_PLACE:  # said now, and not when the run is to be written
        raise SettingsError(
            f"{wanted} with its commit has more than {MAX_PLACE} characters: take the SAE from a folder."
        )
    return Located(fetched.path, source, fetched.revision)


def _stored(pk: int, number: int, name: str) -> bool:
    """Note that a file is in the storage. False: its row is gone."""
    with transaction.atomic():
        checkpoint = Checkpoint.objects.receiving().select_for_update().filter(pk=pk).first()
        if checkpoint is None:
            return False
        checkpoint.files[number]["stored"] = name
        checkpoint.save(update_fields=["files", "updated_at"])
        if all(file["stored"] for file in checkpoint.files) and Checkpoint.objects.received(pk):
            _ask(pk)
    return True


def _ask(pk: int) -> None:
    transaction.on_commit(lambda: ask_to_read(pk))
