"""Snapshots in the database: frozen, read back, brought from elsewhere. Nothing here changes or deletes one."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.db.models import Q
from django.utils.safestring import SafeString

from features.evidence import NotFound
from features.models import Freezing, Received, Snapshot
from features.sharing import archive as archives
from features.sharing import bundle, drawn, rendering, shapes
from features.sharing.canonical import NotCanonical, canonical, digest_of
from features.sharing.shapes import Frozen, Unreadable
from features.sharing.taking import Taken, take


class Damaged(Exception):
    """The row of a snapshot does not hold what its digest says: a fault of the disk, or somebody's hand."""

    def __init__(self, digest: str) -> None:
        super().__init__(
            f"The stored bytes of snapshot {digest[:12]}… do not match its digest, so they are not shown: restore the "
            "database from a backup, or open an exported archive of it."
        )


@dataclass(frozen=True)
class Chain:
    """Who froze a snapshot and when; what it took the place of, and what took its place, newest first."""

    freezings: list[Freezing]
    before: list[Snapshot]
    after: list[Freezing]
    received: list[Received]


def freeze(kind: str, named: Mapping[str, Any], user: Any) -> Snapshot:
    """Freeze what ``named`` names as it is now. The same content gives the same row. Raises NotFound and Refused."""
    return keep(take(kind, named, user), user)


def keep(taken: Taken, user: Any) -> Snapshot:
    try:
        body = canonical(taken.as_json())
    except NotCanonical as error:
        raise shapes.Unreadable(f"This cannot be frozen: {error}") from error
    if len(body) > shapes.MAX_BYTES:
        raise shapes.Unreadable(
            f"A snapshot holds {shapes.MAX_BYTES >> 20} MiB; this would be {len(body) / 2**20:.1f}."
        )
    frozen = shapes.form_of(json.loads(body))  # what could not be shown again is not kept
    with transaction.atomic():
        snapshot = _row(body, taken.kind.value, taken.title, is_open=taken.open)
        earlier = Freezing.objects.filter(subject=taken.subject)
        if not taken.open:  # nobody learns that somebody else froze what is private
            earlier = earlier.filter(by=user)
        last = earlier.order_by("-pk").first()
        before = last.snapshot_id if last and last.snapshot_id != snapshot.pk else None
        name = user.get_username()
        Freezing.objects.create(snapshot=snapshot, subject=taken.subject, supersedes_id=before, by=user, by_name=name)
    if drawn.find(snapshot) is None:
        _draw(snapshot, frozen)
    return snapshot


def _row(body: bytes, kind: str, title: str, *, is_open: bool) -> Snapshot:
    """The row of this content, made if there is none."""
    known: dict[str, Any] = {"kind": kind, "title": title, "n_bytes": len(body), "open": is_open}
    known["packed"] = zlib.compress(body, 6)
    snapshot, is_new = Snapshot.objects.get_or_create(digest=digest_of(body), defaults=known)
    if is_open and not is_new and not snapshot.open:
        Snapshot.objects.filter(pk=snapshot.pk).update(open=True)
    return snapshot


def find_snapshot(digest: str, user: Any) -> Snapshot:
    """Of those that ``user`` may see; somebody else's is not found, like none at all."""
    named = len(digest) == 64 and digest.isascii() and digest.isalnum()
    found = Snapshot.objects.visible_to(user).filter(digest=digest).first() if named else None
    if found is None:
        raise NotFound("There is no snapshot of this digest here, or it is not for you to see.")
    return found


def body_of(snapshot: Snapshot) -> bytes:
    """Its canonical JSON, checked against its digest each time. Raises Damaged."""
    try:
        body = snapshot.body
    except zlib.error:
        raise Damaged(snapshot.digest) from None
    if digest_of(body) != snapshot.digest:
        raise Damaged(snapshot.digest)
    return body


def read(snapshot: Snapshot) -> Frozen:
    """Its digest says that it is what was found to be canonical when it was kept. Raises Damaged, where the row says
    something else of it, too, and Unreadable where an older version let in what this one does not.
    """
    body = body_of(snapshot)
    frozen = shapes.form_of(json.loads(body))
    if (snapshot.kind, snapshot.title, snapshot.n_bytes) != (frozen.kind, _storable(frozen.title), len(body)):
        raise Damaged(snapshot.digest)
    return frozen


def page_of(snapshot: Snapshot) -> SafeString:
    """What its page shows: as it was drawn, or drawn now. Raises Damaged and Unreadable."""
    body_of(snapshot)
    return drawn.find(snapshot) or _draw(snapshot, read(snapshot))


def _draw(snapshot: Snapshot, frozen: Frozen) -> SafeString:
    html = rendering.evidence_html(frozen)
    drawn.keep(snapshot, html)
    return html


def as_it_came(received: Received) -> bytes:
    """The archive. Raises Damaged."""
    archive = bytes(received.archive)
    if digest_of(archive) != received.archive_digest:
        raise Damaged(received.snapshot.digest)
    return archive


def chain_of(snapshot: Snapshot) -> Chain:
    """Two queries."""
    near = Freezing.objects.filter(Q(snapshot=snapshot) | Q(supersedes=snapshot)).order_by("-pk")
    rows = list(near.select_related("snapshot", "supersedes").only(*_NAMED))
    freezings = [row for row in rows if row.snapshot_id == snapshot.pk]
    before = {row.supersedes_id: row.supersedes for row in freezings if row.supersedes}
    after = [row for row in rows if row.supersedes_id == snapshot.pk]
    return Chain(freezings, list(before.values()), after, list(snapshot.received.defer("archive")))


_NAMED = ("subject", "by_name", "at", "snapshot__digest", "supersedes__digest")


def receive(archive: bytes, user: Any) -> Received:
    """A signed archive of this site or another, kept as it came. Raises Unreadable with what is wrong with it."""
    try:
        opened = bundle.open_bundle(archive)
    except archives.Damaged as damaged:
        raise Unreadable(f"This archive is not as it was signed: {damaged!s:.1000}") from None
    frozen = shapes.read(opened.body)
    known = {
        "archive": archive,
        "fingerprint": opened.fingerprint,
        "record": _storable(opened.manifest.get("record", {})),
        "by": user,
        "by_name": user.get_username(),
    }
    with transaction.atomic():
        snapshot = _row(opened.body, frozen.kind, _storable(frozen.title), is_open=False)
        known["snapshot"] = snapshot
        digest = digest_of(archive)
        received = Received.objects.get_or_create(archive_digest=digest, defaults=known)[0]
    if drawn.find(snapshot) is None:
        _draw(snapshot, frozen)
    return received


def _storable(record: Any) -> Any:
    """A JSON value without U+0000, which PostgreSQL stores in no text."""
    if isinstance(record, dict):
        return {_storable(key): _storable(value) for key, value in record.items()}
    if isinstance(record, list):
        return [_storable(value) for value in record]
    return record.replace("\0", "\ufffd") if isinstance(record, str) else record
