"""A snapshot as one file that proves itself: a ZIP with the snapshot, its page, its figures, and a signature of all.

Layout, in this order: snapshot.json (canonical JSON; its SHA-256 is the snapshot's digest), page.html, figures/NAME,
public-key.pem, manifest.json (canonical JSON: Manifest; size and SHA-256 of each file before it), manifest.sig (the
signature of manifest.json as 128 hex digits and a newline). No byte of it can change without being named by `check`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from features.sharing.archive import Damaged, Diagnosis, diagnose, pack
from features.sharing.canonical import NotCanonical, canonical, digest_of, parse
from features.sharing.signing import WrongKey, fingerprint_from, fingerprint_of, verify

FORMAT, VERSION = "featurescope-evidence", 1
SNAPSHOT, PAGE, KEY, MANIFEST, SIGNATURE = (
    *("snapshot.json", "page.html", "public-key.pem"),
    *("manifest.json", "manifest.sig"),
)
FIGURES = "figures/"
MAX_SNAPSHOT, MAX_MANIFEST = 16 << 20, 256 << 10  # bytes

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Signs(Protocol):
    """What a features.sharing.signing.Signer can do."""

    @property
    def public_pem(self) -> bytes: ...

    @property
    def fingerprint(self) -> str: ...

    def sign(self, data: bytes) -> bytes: ...


class FileEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    bytes: int
    sha256: Digest


class Manifest(BaseModel):
    """``snapshot`` is the digest, ``key`` the fingerprint of the key that signed; ``record`` says who froze it, when,
    and where.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal["featurescope-evidence"]
    version: Literal[1]
    snapshot: Digest
    kind: str
    key: Digest
    files: dict[str, FileEntry]
    record: dict[str, Any]


@dataclass(frozen=True)
class Bundle:
    """A bundle without a fault; who signed it is another question. ``body`` is the snapshot's canonical JSON."""

    body: bytes
    manifest: Manifest
    public_pem: bytes
    fingerprint: str


@dataclass(frozen=True)
class Verdict:
    """``faults``: one sentence for each file or part that was changed. ``trusted``: whether the given key signed it,
    None if none was given. What could not be read is "" or empty.
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
    verdict, files, manifest = _examined(data, None)
    if verdict.faults or manifest is None:
        raise Damaged(" ".join(verdict.faults[:3]))
    return Bundle(files[SNAPSHOT], manifest, files[KEY], verdict.fingerprint)


def check(data: bytes, key: bytes | None = None) -> Verdict:
    """What was changed since ``data`` was signed; with ``key``, a public key as PEM or its fingerprint as 64 hex
    digits, also whether that one signed it. Raises WrongKey for a ``key`` that is neither.
    """
    return _examined(data, None if key is None else fingerprint_from(key))[0]


def _examined(data: bytes, key: str | None) -> tuple[Verdict, dict[str, bytes], Manifest | None]:
    found = _diagnosed(data)
    if not {SNAPSHOT, MANIFEST, SIGNATURE} & set(found.files):
        faults = ["This is no bundle of frozen evidence.", *found.faults][: 2 if data.startswith(b"PK") else 1]
        return Verdict(faults, "", "", "", "", {}, None if key is None else False), {}, None
    faults = list(found.faults)
    manifest, problem = _manifest(found)
    faults += [problem] if problem else []
    faults += _missing(found.files, manifest)
    if manifest:
        faults += _changed_files(found, manifest)
    body, problem = _body(found)
    faults += [problem] if problem else []
    signed, problem = _signed(found, manifest)
    faults += [problem] if problem else []
    fingerprint = manifest.key if manifest else ""
    trusted = None if key is None else signed and key == fingerprint
    if key is not None and fingerprint and key != fingerprint:
        faults.append(f"It was signed with the key {fingerprint}, not with the one given, {key}.")
    verdict = Verdict(
        faults=faults,
        digest=digest_of(found.files[SNAPSHOT]) if SNAPSHOT in found.files else "",
        kind=_text(body, "kind"),
        title=_text(body, "title"),
        fingerprint=fingerprint,
        record=manifest.record if manifest else {},
        trusted=trusted,
    )
    return verdict, found.files, manifest


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
        return Manifest.model_validate(parse(found.files[MANIFEST], limit=MAX_MANIFEST)), ""
    except NotCanonical as error:
        return None, f"{MANIFEST} was changed: {error}"
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        return None, f"{MANIFEST} cannot be read: {where}: {first['msg']}."


def _missing(files: Iterable[str], manifest: Manifest | None) -> list[str]:
    """Files that are not there, that should not be, or that stand in another order."""
    there = list(files)
    named = [*manifest.files, MANIFEST, SIGNATURE] if manifest else [name for name in there if name.startswith(FIGURES)]
    figures = sorted(name for name in named if name.startswith(FIGURES))
    right = [SNAPSHOT, PAGE, *figures, KEY, MANIFEST, SIGNATURE]
    faults = [f"{name} is missing: it was removed." for name in right if name not in there]
    faults += [f"{name} was added: the manifest does not name it." for name in there if name not in right]
    if not faults and there != right:
        first = next(a for a, b in zip(there, right, strict=True) if a != b)
        faults.append(f"{first} stands in another place than it was put.")
    return faults


def _changed_files(found: Diagnosis, manifest: Manifest) -> list[str]:
    """Files that are not what the manifest says, but for those that the archive has named."""
    faults = []
    for name, entry in manifest.files.items():
        data = found.files.get(name)
        if data is None or name in found.changed:
            continue
        if len(data) != entry.bytes or digest_of(data) != entry.sha256:
            faults.append(f"{name} was changed: it is not the file that the manifest names.")
    return faults


def _body(found: Diagnosis) -> tuple[Any, str]:
    """What snapshot.json says, None if that cannot be read."""
    if SNAPSHOT not in found.files or SNAPSHOT in found.changed:
        return None, ""
    try:
        return parse(found.files[SNAPSHOT], limit=MAX_SNAPSHOT), ""
    except NotCanonical as error:
        return None, f"{SNAPSHOT} is no snapshot: {error}"


def _signed(found: Diagnosis, manifest: Manifest | None) -> tuple[bool, str]:
    """Whether the key in the bundle signed the manifest; what is wrong, unless the archive has told."""
    needed = (KEY, MANIFEST, SIGNATURE)
    if manifest is None or any(name not in found.files or name in found.changed for name in needed):
        return False, ""
    pem, data, signature = (found.files[name] for name in needed)
    if not re.fullmatch(rb"[0-9a-f]{128}\n", signature):
        return False, f"{SIGNATURE} was changed: it is not 128 hex digits and a newline."
    try:
        if fingerprint_of(pem) != manifest.key:
            return False, f"{KEY} was changed: it is not the key that {MANIFEST} names, {manifest.key}."
        if verify(pem, bytes.fromhex(signature.decode()), data):
            return True, ""
    except WrongKey as error:
        return False, f"{KEY} was changed: {error}"
    return False, f"{MANIFEST} or {SIGNATURE} was changed: the signature is not one of this manifest by this key."


def _text(content: Any, name: str) -> str:
    text = content.get(name, "") if isinstance(content, dict) else ""
    return text if isinstance(text, str) else ""
