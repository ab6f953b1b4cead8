"""Signatures, and where a site's key comes from."""

import hashlib
import os
import stat
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from django.core.exceptions import ImproperlyConfigured

from features.sharing import signing
from features.sharing.signing import Signer, WrongKey, fingerprint_from, fingerprint_of, read_signer, signer, verify


def pem_of(key, encryption=None):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def public_pem_of(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


ELLIPTIC = generate_private_key(SECP256R1())


@pytest.fixture
def own(settings, tmp_path):
    settings.EVIDENCE_KEY, settings.VAR_DIR = "", tmp_path / "var"
    return tmp_path / "var" / "evidence_key.pem"


def test_a_signature_is_that_of_rfc_8032():
    key = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )
    signature = Signer(key).sign(b"\x72")
    assert signature.hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    assert Signer(key).fingerprint == hashlib.sha256(public).hexdigest()


def test_only_what_was_signed_by_the_key_verifies():
    one, other = Signer(Ed25519PrivateKey.generate()), Signer(Ed25519PrivateKey.generate())
    signature = one.sign(b"data")
    assert verify(one.public_pem, signature, b"data")
    assert not verify(one.public_pem, signature, b"Data")
    assert not verify(other.public_pem, signature, b"data")
    assert not verify(one.public_pem, signature[:-1], b"data")
    assert not verify(one.public_pem, b"", b"data")


def test_a_signature_has_one_form():
    """The number in its second half may not be the one that gives the same point, one turn further."""
    one = Signer(Ed25519PrivateKey.generate())
    signature = one.sign(b"data")
    order = 2**252 + 27742317777372353535851937790883648493
    turned = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert not verify(one.public_pem, signature[:32] + turned, b"data")


@pytest.mark.parametrize(
    "pem",
    [b"", b"no key", public_pem_of(ELLIPTIC), pem_of(Ed25519PrivateKey.generate())],
    ids=["none", "text", "elliptic", "private"],
)
def test_what_is_no_public_key_of_this_kind_is_refused(pem):
    for use in (fingerprint_of, fingerprint_from, lambda pem: verify(pem, b"", b"")):
        with pytest.raises(WrongKey, match=r"^It is .*\.$"):
            use(pem)


def test_a_fingerprint_may_stand_for_a_key():
    one = Signer(Ed25519PrivateKey.generate())
    given = (one.public_pem, one.fingerprint.encode(), one.fingerprint.upper().encode() + b"\n")
    assert {fingerprint_from(key) for key in given} == {one.fingerprint}
    with pytest.raises(WrongKey):
        fingerprint_from(one.fingerprint[1:].encode())


def test_a_key_is_made_once_and_for_its_owner_alone(own):
    made = signer()
    assert signer() is made
    assert read_signer(own.read_bytes()).fingerprint == made.fingerprint
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert [path.name for path in own.parent.iterdir()] == ["evidence_key.pem"]
    signing._signer.cache_clear()
    assert signer().fingerprint == made.fingerprint


def _made(path: str) -> str:
    signing._make(Path(path))
    return read_signer(Path(path).read_bytes()).fingerprint


def test_processes_that_start_at_once_use_one_key(own):
    with ProcessPoolExecutor(4, mp_context=get_context("fork")) as pool:
        for n in range(10):
            path = own.with_name(f"{n}.pem")
            assert len(set(pool.map(_made, [str(path)] * 4))) == 1
    assert len(list(own.parent.iterdir())) == 10


def test_a_key_is_never_there_in_part(own, monkeypatch):
    """Whoever comes second finds the key of the first, even if both saw none."""
    _made(str(own))
    before = own.read_bytes()
    monkeypatch.setattr(Path, "exists", lambda path: False)
    signing._make(own)
    assert own.read_bytes() == before
    assert [path.name for path in own.parent.iterdir()] == ["evidence_key.pem"]


def test_the_setting_is_a_key_or_the_path_of_one(own, settings, tmp_path):
    key = Ed25519PrivateKey.generate()
    (tmp_path / "key.pem").write_bytes(pem_of(key))
    for setting in (pem_of(key).decode(), f"\n{pem_of(key).decode()}", str(tmp_path / "key.pem")):
        settings.EVIDENCE_KEY = setting
        assert signer().fingerprint == Signer(key).fingerprint
    assert not own.exists()


@pytest.mark.parametrize(
    ("pem", "why"),
    [
        (pem_of(ELLIPTIC), "not one of Ed25519"),
        (public_pem_of(Ed25519PrivateKey.generate()), "no private key"),
        (pem_of(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"word")), "passphrase"),
        (pem_of(Ed25519PrivateKey.generate())[:60], "no private key"),
    ],
    ids=["elliptic", "public", "encrypted", "cut off"],
)
def test_a_wrong_key_is_refused_in_a_sentence(own, settings, tmp_path, pem, why):
    (tmp_path / "key.pem").write_bytes(pem)
    for setting in (pem.decode(), str(tmp_path / "key.pem")):
        settings.EVIDENCE_KEY = setting
        with pytest.raises(ImproperlyConfigured, match=f"EVIDENCE_KEY.* cannot sign evidence: .*{why}.*\\.$"):
            signer()
    own.parent.mkdir()
    own.write_bytes(pem)
    settings.EVIDENCE_KEY = ""
    with pytest.raises(ImproperlyConfigured, match=why):
        signer()


def test_a_key_that_was_pasted_without_its_first_line_is_not_shown(own, settings):
    secret = pem_of(Ed25519PrivateKey.generate()).decode().splitlines()[1]
    settings.EVIDENCE_KEY = secret
    with pytest.raises(ImproperlyConfigured, match="The file that EVIDENCE_KEY names cannot be read: ") as caught:
        signer()
    assert secret not in str(caught.value)


def test_a_folder_without_hard_links_is_an_error_in_a_sentence(own, monkeypatch):
    def refuse(*paths):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(ImproperlyConfigured, match=r"evidence_key.pem cannot be made: Operation not permitted\.$"):
        signer()
    assert not list(own.parent.iterdir())
