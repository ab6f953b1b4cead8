"""Signatures (Ed25519, RFC 8032) that say which site froze what. To check one needs neither settings nor a database."""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from uuid import uuid4

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)


class WrongKey(ValueError):
    """What should be a key is none, or of another kind. The message is one sentence."""


@dataclass(frozen=True)
class Signer:
    """The key with which a site signs."""

    key: Ed25519PrivateKey

    def sign(self, data: bytes) -> bytes:
        """64 bytes, always the same for the same ``data``."""
        return self.key.sign(data)

    @property
    def public_pem(self) -> bytes:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the 32 bytes of the public key, as 64 hex digits."""
        return fingerprint_of(self.public_pem)


def read_signer(pem: bytes) -> Signer:
    """From a private key as PEM (PKCS8, not encrypted). Raises WrongKey."""
    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it is encrypted
        raise WrongKey("It is no private key as PEM (PKCS8) without a passphrase.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise WrongKey("It is a private key, but not one of Ed25519.")
    return Signer(key)


def fingerprint_of(public_pem: bytes) -> str:
    """SHA-256 of the 32 bytes of a public key as PEM, as 64 hex digits. Raises WrongKey."""
    raw = _public(public_pem).public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()


def fingerprint_from(key: bytes) -> str:
    """Of a public key as PEM, or of the fingerprint itself as 64 hex digits. Raises WrongKey."""
    text = key.decode("ascii", "replace").strip()
    if re.fullmatch("[0-9a-fA-F]{64}", text):
        return text.lower()
    return fingerprint_of(key)


def verify(public_pem: bytes, signature: bytes, data: bytes) -> bool:
    """Whether ``signature`` is that of ``data`` by the owner of the key. Raises WrongKey."""
    try:
        _public(public_pem).verify(signature, data)
    except InvalidSignature:
        return False
    return True


def _public(pem: bytes) -> Ed25519PublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise WrongKey("It is no public key as PEM.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise WrongKey("It is a public key, but not one of Ed25519.")
    return key


def signer() -> Signer:
    """This site's, of the setting EVIDENCE_KEY; without one, of a key that is made in VAR_DIR when it is first needed.

    Raises ImproperlyConfigured.
    """
    from django.conf import settings  # here alone, lest checking a signature need settings

    return _signer(settings.EVIDENCE_KEY, settings.VAR_DIR / "evidence_key.pem")


@lru_cache(maxsize=4)  # tests have several
def _signer(setting: str, own: Path) -> Signer:
    from django.core.exceptions import ImproperlyConfigured

    # What the setting holds is never shown: a key that was pasted without its first line would be.
    place = "The file that EVIDENCE_KEY names" if setting else str(own)
    try:
        if setting.lstrip().startswith("-----BEGIN"):
            place = "EVIDENCE_KEY"
            return read_signer(setting.encode())
        if not setting:
            _make(own)
        return read_signer(Path(setting or own).read_bytes())
    except OSError as error:
        raise ImproperlyConfigured(f"{place} cannot be {'read' if setting else 'made'}: {error.strerror}.") from error
    except WrongKey as error:
        raise ImproperlyConfigured(f"{place} cannot sign evidence: {error}") from error


def _make(path: Path) -> None:
    """A new key at ``path``, readable by its owner alone, unless there is one. It is there whole or not at all, and of
    two processes that make one, both use that of the first.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f"{path.name}.{uuid4().hex}")
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        os.link(scratch, path)
    except FileExistsError:
        pass
    finally:
        scratch.unlink(missing_ok=True)
