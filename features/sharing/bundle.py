"""A snapshot as one file that proves itself: a ZIP with the snapshot, its page, its figures, and a signature of all.

Layout, in this order: snapshot.json (canonical JSON; its SHA-256 is the snapshot's digest), page.html, figures/NAME,
public-key.pem, manifest.json (canonical JSON: Manifest; size and SHA-256 of each file before it), manifest.sig (the
signature of manifest.json as 128 hex digits and a newline). No byte of it can change without being named by `check`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from features.sharing.archive import Damaged, Diagnosis, diagnose, pack
from features.sharing.canonical import NotCanonical, canonical, digest_of, parse
from features.sharing.signing import WrongKey, fingerprint_from, fingerprint_of, verify

FORMAT, VERSION = "featurescope-evidence", 1
SNAPSHOT, PAGE, FIGURES, KEY = "snapshot.json", "page.html", "figures/", "public-key.pem"
MANIFEST, SIGNATURE = "manifest.json", "manifest.sig"
MAX_SNAPSHOT, MAX_MANIFEST = 4 << 20, 256 << 10  # bytes

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Signs(Protocol):
    """What a features.sharing.signing.Signer can do."""

    @property
    def public_pem(self) -> bytes: ...

    @property
    def fingerprint(self) -> str: ...

    def sign(self, data: bytes) -> bytes: ...


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class FileEntry(Shape):
    bytes: int
    sha256: Digest


class Manifest(Shape):
    """``snapshot`` is the digest, ``key`` the fingerprint of the key that signed; ``record`` says who froze it, when,
    and where. ``files`` has all but manifest.json and manifest.sig.
    """

    format: Literal["featurescope-evidence"]
    version: Literal[1]
    snapshot: Digest
    kind: str
    key: Digest
    files: dict[str, FileEntry]
    record: dict[str, Any]

    @model_validator(mode="after")
    def covers_all(self) -> Self:
        named = {name for name in self.files if not name.startswith(FIGURES)}
        if named != {SNAPSHOT, PAGE, KEY}:
            raise ValueError("it does not name just the files of a bundle")
        if self.files[SNAPSHOT].sha256 != self.snapshot:
            raise ValueError(f"it gives two digests of {SNAPSHOT}")
        return self


@dataclass(frozen=True)
class Bundle:
    """A bundle without a fault; who signed it is another question. ``body`` is the snapshot's canonical JSON,
    ``manifest`` has the fields of Manifest.
    """

    body: bytes
    manifest: dict[str, Any]
    public_pem: bytes
    fingerprint: str


@dataclass(frozen=True)
class Verdict:
    """``faults``: one sentence for each file or part that was changed. ``digest`` is that of the snapshot as it is.
    ``trusted``: whether the given key signed it, None if none was given. What cannot be read is "" or empty, and so are
    ``fingerprint`` and ``record`` unless the signature is that of this manifest.
    """

    faults: list[str]
    digest: str
    kind: str
    title: str
    fingerprint: str
    record: dict[str, Any]
    trusted: bool | None

    @property
    def ok(self) -> bool:
        return not self.faults


def make_bundle(
    body: bytes, page: bytes, figures: Mapping[str, bytes], record: Mapping[str, Any], signer: Signs
) -> bytes:
    """The bundle of a snapshot whose canonical JSON is ``body``; ``figures`` by the names that they get in figures/.

    Raises NotCanonical for a body or record that is not, ValueError for names and sizes that are refused when read.
    """
    content = parse(body, limit=MAX_SNAPSHOT)
    named = {f"{FIGURES}{name}": figures[name] for name in sorted(figures)}
    files = {SNAPSHOT: body, PAGE: page, **named, KEY: signer.public_pem}
    manifest = canonical(
        {
            "format": FORMAT,
            "version": VERSION,
            "snapshot": digest_of(body),
            "kind": _text(content, "kind"),
            "key": signer.fingerprint,
            "files": {name: {"bytes": len(data), "sha256": digest_of(data)} for name, data in files.items()},
            "record": record,
        }
    )
    if len(manifest) > MAX_MANIFEST:
        raise ValueError(f"A manifest of {len(manifest):,} bytes is larger than the {MAX_MANIFEST:,} that are read.")
    signature = signer.sign(manifest).hex().encode() + b"\n"
    return pack(files | {MANIFEST: manifest, SIGNATURE: signature})


def open_bundle(data: bytes) -> Bundle:
    """Raises Damaged, with what `check` would find."""
    read = _read(data)
    if read.faults or read.manifest is None:
        raise Damaged(" ".join(read.faults[:3]))
    files = read.found.files
    return Bundle(files[SNAPSHOT], read.manifest.model_dump(), files[KEY], read.manifest.key)


def check(data: bytes, key: bytes | None = None) -> Verdict:
    """What was changed since ``data`` was signed; with ``key``, a public key as PEM or its fingerprint as 64 hex
    digits, also whether that one signed it. Raises WrongKey for a ``key`` that is neither.
    """
    wanted = None if key is None else fingerprint_from(key)
    read = _read(data)
    signed = read.manifest if read.signed else None
    faults = list(read.faults)
    if wanted and signed and signed.key != wanted:
        faults.append(f"It was signed with the key {signed.key}, not with the one that was given, {wanted}.")
    return Verdict(
        faults=faults,
        digest=digest_of(read.found.files[SNAPSHOT]) if SNAPSHOT in read.found.files else "",
        kind=_text(read.content, "kind"),
        title=_text(read.content, "title"),
        fingerprint=signed.key if signed else "",
        record=signed.record if signed else {},
        trusted=None if wanted is None else signed is not None and signed.key == wanted,
    )


@dataclass(frozen=True)
class _Read:
    """What can be read of a bundle. ``manifest`` and ``content`` (of snapshot.json) are None where they cannot be;
    ``signed``: whether the key that the manifest names signed it.
    """

    found: Diagnosis
    faults: list[str]
    manifest: Manifest | None
    content: Any
    signed: bool


def _read(data: bytes) -> _Read:
    found = _diagnosed(data)
    if not {SNAPSHOT, MANIFEST, SIGNATURE} & set(found.files):
        faults = ["This is no bundle of frozen evidence."]
        if data.startswith(b"PK"):  # it is a ZIP, so what is wrong with that may help
            faults += found.faults[:1]
        return _Read(found, faults, None, None, False)
    manifest, of_manifest = _manifest(found)
    content, of_content = _content(found, manifest)
    signed, of_signature = _signed(found, manifest)
    faults = [*found.faults, of_manifest, *_missing(found, manifest), *_changed(found, manifest)]
    faults += [of_content, of_signature]
    return _Read(found, [fault for fault in faults if fault], manifest, content, signed)


def _diagnosed(data: bytes) -> Diagnosis:
    """With the names that the manifest has, where a changed one has to be told from a right one."""
    known = {SNAPSHOT, PAGE, KEY, MANIFEST, SIGNATURE}
    found = diagnose(data, known)
    if not found.faults or not (manifest := _manifest(found)[0]):
        return found
    return diagnose(data, known | set(manifest.files))


def _manifest(found: Diagnosis) -> tuple[Manifest | None, str]:
    """What manifest.json says, and what is wrong with it that the archive has not told yet."""
    if MANIFEST not in found.files or MANIFEST in found.changed:
        return None, ""
    try:
        content = parse(found.files[MANIFEST], limit=MAX_MANIFEST)
        if isinstance(content, dict) and content.get("version") != VERSION:
            return None, f"{MANIFEST} is of version {content.get('version')!s:.20}; this code reads version {VERSION}."
        return Manifest.model_validate(content), ""
    except NotCanonical as error:
        return None, f"{MANIFEST} was changed: {error}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = "".join(f"{step!s:.100}: " for step in first["loc"])
        return None, f"{MANIFEST} was changed: {where}{first['msg']}."


def _missing(found: Diagnosis, manifest: Manifest | None) -> list[str]:
    """Files that are not there, that should not be, or that stand in another order."""
    there = list(found.files)
    figures = sorted(name for name in (manifest.files if manifest else there) if name.startswith(FIGURES))
    right = [SNAPSHOT, PAGE, *figures, KEY, MANIFEST, SIGNATURE]
    faults = [f"{name} is missing." for name in right if name not in found.files]
    faults += [f"{name} was added: it is no file of this bundle." for name in there if name not in right]
    if not faults and not found.faults and there != right:
        first = next(a for a, b in zip(there, right, strict=True) if a != b)
        faults.append(f"{first} stands in another place than it was put.")
    return faults


def _changed(found: Diagnosis, manifest: Manifest | None) -> list[str]:
    """Files that are not what the manifest says, but for those that the archive has named."""
    return [
        f"{name} was changed: it is not the file that {MANIFEST} names."
        for name, entry in (manifest.files if manifest else {}).items()
        if name in found.files and name not in found.changed and not _is(found.files[name], entry)
    ]


def _is(data: bytes, entry: FileEntry) -> bool:
    return len(data) == entry.bytes and digest_of(data) == entry.sha256


def _content(found: Diagnosis, manifest: Manifest | None) -> tuple[Any, str]:
    """What snapshot.json says, and what is wrong with it that neither the archive nor the manifest tells."""
    if SNAPSHOT not in found.files or SNAPSHOT in found.changed:
        return None, ""
    body = found.files[SNAPSHOT]
    if manifest and not _is(body, manifest.files[SNAPSHOT]):
        return None, ""
    try:
        content = parse(body, limit=MAX_SNAPSHOT)
    except NotCanonical as error:
        return None, f"{SNAPSHOT} is no snapshot: {error}"
    if manifest and manifest.kind != _text(content, "kind"):
        return content, f"{MANIFEST} calls {SNAPSHOT} {manifest.kind[:100]!r}, and it calls itself otherwise."
    return content, ""


def _signed(found: Diagnosis, manifest: Manifest | None) -> tuple[bool, str]:
    """Whether the key in the bundle signed the manifest; what is wrong, if that was not told yet."""
    if manifest is None or any(n not in found.files or n in found.changed for n in (KEY, MANIFEST, SIGNATURE)):
        return False, ""
    pem, data, signature = found.files[KEY], found.files[MANIFEST], found.files[SIGNATURE]
    if not _is(pem, manifest.files[KEY]):
        return False, ""
    problem = ""
    try:
        if fingerprint_of(pem) != manifest.key:
            problem = f"{KEY} was changed: it is not the key that {MANIFEST} names, {manifest.key}."
        elif not re.fullmatch(rb"[0-9a-f]{128}\n", signature):
            problem = f"{SIGNATURE} was changed: it is not 128 hex digits and a newline."
        elif not verify(pem, bytes.fromhex(signature.decode()), data):
            problem = f"{MANIFEST} or {SIGNATURE} was changed: this key did not sign this manifest so."
    except WrongKey as error:
        problem = f"{KEY} was changed: {error}"
    return not problem, problem


def _text(content: Any, name: str) -> str:
    text = content.get(name, "") if isinstance(content, dict) else ""
    return text if isinstance(text, str) else ""
