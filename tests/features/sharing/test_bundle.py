"""Bundles: each changed byte is found and named, and so is what was changed by somebody who can pack archives."""

import json
import random
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from features.sharing.archive import MEMBERS, Damaged, pack, unpack
from features.sharing.bundle import MAX_MANIFEST, check, make_bundle, open_bundle
from features.sharing.canonical import NotCanonical, canonical, digest_of
from features.sharing.signing import Signer, WrongKey

SIGNER, OTHER = (Signer(Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)) for n in (1, 2))
BODY = canonical({"kind": "feature", "title": "Feature 85 of tiny-lm-l6", "content": {"density": 0.0125}})
FIGURES = {"b.svg": b"<svg>2</svg>", "a.svg": b"<svg>1</svg>"}
RECORD = {"frozen": [{"by": "mira", "at": "2026-11-22T21:43:02Z"}], "site": "https://scope.example"}
NAMES = [
    *("snapshot.json", "page.html", "figures/a.svg", "figures/b.svg"),
    *("public-key.pem", "manifest.json", "manifest.sig"),
]


def made(signer=SIGNER, body=BODY, record=RECORD) -> bytes:
    return make_bundle(body, b"<p>Feature 85", FIGURES, record, signer)


BUNDLE = made()
FILES = unpack(BUNDLE)


def signed(files, signer=SIGNER, /, **changes) -> bytes:
    """``files`` packed with a manifest that is right but for ``changes``, signed by ``signer``."""
    others = {name: data for name, data in files.items() if not name.startswith("manifest.")}
    manifest = json.loads(FILES["manifest.json"]) | {
        "key": signer.fingerprint,
        "snapshot": digest_of(others["snapshot.json"]) if "snapshot.json" in others else "",
        "files": {name: {"bytes": len(data), "sha256": digest_of(data)} for name, data in others.items()},
        **changes,
    }
    data = canonical(manifest)
    return pack(others | {"manifest.json": data, "manifest.sig": signer.sign(data).hex().encode() + b"\n"})


def test_a_bundle_holds_what_it_was_made_of():
    assert list(FILES) == NAMES
    assert FILES["snapshot.json"] == BODY
    assert FILES["public-key.pem"] == SIGNER.public_pem
    manifest = json.loads(FILES["manifest.json"])
    assert manifest == {
        "format": "featurescope-evidence",
        "version": 1,
        "snapshot": digest_of(BODY),
        "kind": "feature",
        "key": SIGNER.fingerprint,
        "files": {name: {"bytes": len(FILES[name]), "sha256": digest_of(FILES[name])} for name in NAMES[:-2]},
        "record": RECORD,
    }
    opened = open_bundle(BUNDLE)
    assert (opened.body, opened.public_pem, opened.fingerprint) == (BODY, SIGNER.public_pem, SIGNER.fingerprint)
    assert opened.manifest == manifest


def test_the_same_snapshot_and_record_give_the_same_bytes():
    assert made() == BUNDLE
    assert signed(FILES) == BUNDLE


def test_what_was_not_changed_is_said_to_be_so():
    verdict = check(BUNDLE)
    assert verdict.ok
    assert verdict.trusted is None
    assert (verdict.digest, verdict.fingerprint) == (digest_of(BODY), SIGNER.fingerprint)
    assert (verdict.kind, verdict.title, verdict.record) == ("feature", "Feature 85 of tiny-lm-l6", RECORD)


@pytest.mark.parametrize("key", [SIGNER.public_pem, SIGNER.fingerprint.encode(), SIGNER.fingerprint.upper().encode()])
def test_the_key_that_signed_it_is_trusted(key):
    verdict = check(BUNDLE, key)
    assert verdict.ok
    assert verdict.trusted


@pytest.mark.parametrize("key", [OTHER.public_pem, OTHER.fingerprint.encode()])
def test_another_key_is_not(key):
    verdict = check(BUNDLE, key)
    assert verdict.trusted is False
    assert verdict.faults == [
        f"It was signed with the key {SIGNER.fingerprint}, not with the one that was given, {OTHER.fingerprint}."
    ]


def test_what_is_no_key_is_an_error():
    with pytest.raises(WrongKey):
        check(BUNDLE, b"no key")


def parts():
    """What each byte of the bundle belongs to, by the sizes that the format says."""
    labels = []
    for name, data in FILES.items():
        labels += [f"The header of {name} was changed"] * (30 + len(name)) + [f"{name} was changed"] * len(data)
    for name in FILES:
        labels += [f"The directory's entry of {name} was changed"] * (46 + len(name))
    return labels + ["The end of the archive was changed"] * 22


def test_each_changed_byte_is_found_and_what_it_lies_in_is_named():
    labels = parts()
    assert len(labels) == len(BUNDLE)
    rng = random.Random(7)
    for at, label in enumerate(labels):
        for change in (1, 32, rng.choice([2, 4, 8, 16, 64, 128, 255])):  # 32: letters become small or large
            data = BUNDLE[:at] + bytes([BUNDLE[at] ^ change]) + BUNDLE[at + 1 :]
            verdict = check(data, SIGNER.public_pem)
            assert not verdict.ok
            assert len(verdict.faults) == 1, (at, change, verdict.faults)
            assert verdict.faults[0].startswith(label), (at, change, verdict.faults)


@pytest.mark.parametrize("at", range(0, len(BUNDLE), 97))
def test_a_bundle_that_was_cut_or_grew_is_not_whole(at):
    for data in (BUNDLE[:at], BUNDLE[at + 1 :], BUNDLE[:at] + BUNDLE[at + 1 :], BUNDLE[:at] + b"\0" + BUNDLE[at:]):
        assert not check(data).ok
        with pytest.raises(Damaged):
            open_bundle(data)


def test_all_files_that_were_changed_are_named():
    data = bytearray(BUNDLE)
    for name in ("page.html", "figures/b.svg", "manifest.json"):
        data[BUNDLE.index(FILES[name]) + 3] ^= 1
    faults = check(bytes(data)).faults
    assert [fault.split()[0] for fault in faults] == ["page.html", "figures/b.svg", "manifest.json"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_was_changed_and_packed_again_is_named(name):
    middle = len(FILES[name]) // 2
    changed = FILES[name][:middle] + bytes([FILES[name][middle] ^ 1]) + FILES[name][middle + 1 :]
    faults = check(pack(FILES | {name: changed})).faults
    assert len(faults) == 1
    assert f"{name} " in faults[0]
    assert "was changed" in faults[0]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_missing_is_named(name):
    files = {each: data for each, data in FILES.items() if each != name}
    assert f"{name} is missing." in check(pack(files)).faults


@pytest.mark.parametrize("name", ["a", "figures/c.svg", "manifest.txt"])
def test_a_file_that_was_added_is_named(name):
    assert check(pack({name: b"", **FILES})).faults == [f"{name} was added: it is no file of this bundle."]


def test_files_that_stand_in_another_order_are_named():
    names = [*NAMES[1:], NAMES[0]]
    faults = check(pack({name: FILES[name] for name in names})).faults
    assert faults == ["page.html stands in another place than it was put."]


def test_a_file_that_has_another_name_is_named():
    files = {("figures/x.svg" if name == "figures/a.svg" else name): data for name, data in FILES.items()}
    assert check(pack(files)).faults == [
        "figures/a.svg is missing.",
        "figures/x.svg was added: it is no file of this bundle.",
    ]


def test_whoever_signs_anew_has_another_fingerprint():
    files = FILES | {"page.html": b"<p>Other", "public-key.pem": OTHER.public_pem}
    data = signed(files, OTHER)
    assert check(data).ok
    assert check(data).fingerprint == OTHER.fingerprint
    verdict = check(data, SIGNER.public_pem)
    assert verdict.trusted is False
    assert "It was signed with the key" in verdict.faults[0]


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (signed(FILES, OTHER), "public-key.pem was changed: it is not the key that manifest.json names"),
        (signed(FILES, OTHER, key=SIGNER.fingerprint), "manifest.json or manifest.sig was changed"),
        (pack(FILES | {"public-key.pem": OTHER.public_pem}), "public-key.pem was changed"),
        (signed(FILES | {"public-key.pem": b"none"}), "public-key.pem was changed: It is no public key"),
        (signed(FILES | {"snapshot.json": b'{"a": 1}'}), "snapshot.json is no snapshot"),
        (signed(FILES | {"snapshot.json": b"[]"}), "manifest.json calls snapshot.json 'feature'"),
        (signed(FILES, kind="run"), "manifest.json calls snapshot.json 'run'"),
        (signed(FILES, snapshot="0" * 64), "manifest.json was changed: Value error, it gives two digests"),
        (signed(FILES, version=2), "manifest.json is of version 2; this code reads version 1"),
        (signed(FILES, format="other"), "manifest.json was changed: format: "),
        (signed(FILES, files={}), "manifest.json was changed: Value error, it does not name just the files"),
        (signed(FILES | {"more.txt": b""}), "it does not name just the files"),
        (signed(FILES, record=[]), "manifest.json was changed: record: "),
        (signed(FILES, more=1), "manifest.json was changed: more: "),
        (signed(FILES, key=1), "manifest.json was changed: key: "),
        (pack(FILES | {"manifest.json": b"[]"}), "manifest.json was changed: "),
        (pack(FILES | {"manifest.json": b"{}"}), "manifest.json is of version None"),
        (pack(FILES | {"manifest.json": b"x"}), "manifest.json was changed: "),
        (pack(FILES | {"manifest.json": b" " * (MAX_MANIFEST + 1)}), "more than the 262,144"),
        (pack(FILES | {"manifest.sig": FILES["manifest.sig"].upper()}), "manifest.sig was changed: it is not 128"),
        (pack(FILES | {"manifest.sig": FILES["manifest.sig"][:-1]}), "manifest.sig was changed: it is not 128"),
        (pack({"readme.txt": b"hello"}), "This is no bundle"),
        (pack({}), "This is no bundle"),
        (b"", "This is no bundle"),
        (b"%PDF-1.4 " * 100, "This is no bundle"),
    ],
)
def test_what_was_made_by_somebody_who_knows_the_format_is_refused(data, named):
    verdict = check(data)
    assert not verdict.ok
    assert named in " ".join(verdict.faults)
    assert not check(data, SIGNER.public_pem).ok
    with pytest.raises(Damaged):
        open_bundle(data)


def test_a_key_of_another_kind_is_refused():
    pem = generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert "not one of Ed25519" in check(signed(FILES | {"public-key.pem": pem})).faults[0]


def test_what_nobody_signed_is_not_said():
    """Neither who froze it nor whose key it was."""
    forged = check(signed(FILES, OTHER, key=SIGNER.fingerprint, record={"frozen": [{"by": "somebody else"}]}))
    assert (forged.fingerprint, forged.record) == ("", {})
    page = check(pack(FILES | {"page.html": b""}))
    assert (page.fingerprint, page.record) == (SIGNER.fingerprint, RECORD)


def test_what_cannot_be_a_bundle_is_not_made():
    with pytest.raises(NotCanonical):
        made(body=b'{"a": 1}')
    with pytest.raises(NotCanonical, match=r"^record\.at is a float32"):
        made(record={"at": __import__("numpy").float32(1)})
    with pytest.raises(ValueError, match="manifest"):
        made(record={"long": "x" * MAX_MANIFEST})
    with pytest.raises(ValueError, match="cannot be the name"):
        make_bundle(BODY, b"", {"../a.svg": b""}, {}, SIGNER)
    with pytest.raises(ValueError, match="more than the 64"):
        make_bundle(BODY, b"", {f"{n}.svg": b"" for n in range(MEMBERS)}, {}, SIGNER)


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 9) | st.booleans()),
    st.dictionaries(st.from_regex(r"[a-z0-9][a-z0-9_-]{0,9}\.svg", fullmatch=True), st.binary(max_size=30), max_size=5),
    st.binary(max_size=100),
)
def test_any_content_makes_a_bundle_that_is_whole(content, figures, page):
    body = canonical(content)
    data = make_bundle(body, page, figures, {}, SIGNER)
    assert check(data, SIGNER.public_pem).ok
    assert open_bundle(data).body == body


def test_nothing_of_django_is_loaded_to_check_a_bundle(tmp_path):
    (tmp_path / "bundle.zip").write_bytes(BUNDLE)
    code = (
        "import sys; from pathlib import Path; from features.sharing.bundle import check;"
        f"verdict = check(Path({str(tmp_path / 'bundle.zip')!r}).read_bytes());"
        "print(verdict.ok, sorted({'django', 'celery', 'torch', 'numpy'} & set(sys.modules)))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "True []\n"
