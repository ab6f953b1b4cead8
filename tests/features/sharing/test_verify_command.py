"""``manage.py verify``, mostly as a program of its own, beside which there is no database."""

import os
import subprocess
import sys
from io import StringIO

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.core.management import CommandError, call_command

from features.management.commands.verify import printable
from features.sharing.archive import LIMIT, pack, unpack
from features.sharing.bundle import make_bundle
from features.sharing.canonical import canonical, digest_of
from features.sharing.signing import Signer

SIGNER, OTHER = (Signer(Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32)) for n in (1, 2))
BODY = canonical({"kind": "feature", "title": "Feature 85 · tiny-lm-l6"})
RECORD = {
    "frozen": [{"by": "mira", "at": "2026-11-22T21:43:02Z", "subject": "feature 85", "supersedes": "ab" * 32}],
    "superseded_by": [{"digest": "cd" * 32, "at": "2026-11-23T09:00:00Z"}],
    "site": "https://scope.example",
    "exported_at": "2026-11-24T10:00:00Z",
}
BUNDLE = make_bundle(BODY, b"<p>", {"a.svg": b"<svg/>"}, RECORD, SIGNER)


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "evidence.zip"
    path.write_bytes(BUNDLE)
    return path


def verify(*args) -> tuple[int, str]:
    """The exit status and what was printed, within this process."""
    out = StringIO()
    try:
        call_command("verify", *map(str, args), stdout=out)
    except SystemExit as end:
        return int(end.code or 0), out.getvalue()
    except CommandError as error:
        return error.returncode, str(error)
    return 0, out.getvalue()


def run(*args, **environment) -> subprocess.CompletedProcess:
    """As a program of its own, with a database that is nowhere."""
    return subprocess.run(
        [sys.executable, "manage.py", "verify", *map(str, args)],
        cwd=settings.BASE_DIR,
        env={**os.environ, "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nowhere", **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_without_a_database_it_says_what_it_found(bundle):
    said = run(bundle)
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout == (
        f"  digest           {digest_of(BODY)}\n"
        "  kind             feature\n"
        "  title            Feature 85 · tiny-lm-l6\n"
        "  frozen           by mira at 2026-11-22T21:43:02Z\n"
        "  of               feature 85\n"
        f"  supersedes       {'ab' * 32}\n"
        f"  superseded by    {'cd' * 32}\n"
        "  site             https://scope.example\n"
        "  exported at      2026-11-24T10:00:00Z\n"
        f"  signed by        {SIGNER.fingerprint}\n"
        "\nNothing was changed.\n"
        "Anybody can sign: compare the fingerprint with the one that the site publishes at /evidence-key.\n"
    )


def test_without_a_database_it_names_what_was_changed(bundle):
    data = bytearray(BUNDLE)
    data[data.index(b"<svg/>")] ^= 1
    bundle.write_bytes(data)
    said = run(bundle, PYTHONIOENCODING="ascii")
    assert (said.returncode, said.stderr) == (1, "")
    assert "title            Feature 85 ? tiny" in said.stdout
    assert "\nNOT PROVEN:\n  figures/a.svg was changed: " in said.stdout
    assert "Nothing was changed" not in said.stdout


def test_the_key_may_be_a_file_or_a_fingerprint(bundle, tmp_path):
    (tmp_path / "key.pem").write_bytes(SIGNER.public_pem)
    for key in (tmp_path / "key.pem", SIGNER.fingerprint):
        status, said = verify(bundle, "--key", key)
        assert status == 0
        assert f"{SIGNER.fingerprint}, the key that was given\n" in said
        assert "Anybody can sign" not in said


def test_another_key_is_not_enough(bundle, tmp_path):
    (tmp_path / "key.pem").write_bytes(OTHER.public_pem)
    for key in (tmp_path / "key.pem", OTHER.fingerprint):
        status, said = verify(bundle, "--key", key)
        assert status == 1
        assert "NOT PROVEN:\n  It was signed with the key" in said


def test_what_cannot_be_read_is_said_in_one_sentence(bundle, tmp_path):
    (tmp_path / "empty.zip").write_bytes(b"")
    (tmp_path / "key.txt").write_text("no key")
    with (tmp_path / "huge.zip").open("wb") as file:
        file.truncate(LIMIT + 1)
    for args, why in (
        ([tmp_path / "none.zip"], "none.zip: No such file or directory."),
        ([tmp_path], "is no file."),
        (["/dev/zero"], "/dev/zero is no file."),
        ([tmp_path / "empty.zip"], "empty.zip is empty."),
        ([tmp_path / "huge.zip"], "huge.zip has more than 67,108,864 bytes, so it is not what it should be."),
        ([bundle, "--key", tmp_path / "none.pem"], "none.pem: No such file or directory."),
        ([bundle, "--key", tmp_path / "key.txt"], "key.txt: It is no public key as PEM."),
        ([bundle, "--key", SIGNER.fingerprint[1:]], "No such file or directory."),
        ([bundle, "--key", ""], "is no file."),
    ):
        status, said = verify(*args)
        assert status == 1
        assert said.endswith(why), said
        assert "\n" not in said


def test_a_file_that_is_no_bundle_is_said_to_be_none(tmp_path):
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4")
    assert verify(tmp_path / "a.pdf") == (1, "\nNOT PROVEN:\n  This is no bundle of frozen evidence.\n")


def test_text_from_the_file_cannot_play_with_the_terminal(bundle):
    evil = "\x1b[2J\x1b]0;owned\x07\r\nNothing was changed.\u202e\u2066\u200b\x9b31m\u2028next" + "x" * 10_000
    body = canonical({"kind": evil, "title": evil})
    record = {
        "frozen": [{"by": evil, "at": [evil]}, evil, 5, *[{"by": "b"}] * 100],
        "superseded_by": evil,
        "site": {evil: evil},
    }
    bundle.write_bytes(make_bundle(body, b"", {}, record, SIGNER))
    status, said = verify(bundle)
    assert status == 0
    assert all(char == "\n" or char.isprintable() for char in said)
    assert max(map(len, said.split("\n"))) < 530
    assert said.count("\nNothing was changed.\n") == 1
    assert said.count("frozen  ") < 10


def test_faults_from_a_hostile_file_are_short_and_plain(bundle):
    files = unpack(BUNDLE)
    named = {f"figures/{n}.svg": {"bytes": 1, "sha256": "0" * 64} for n in range(1000)}
    manifest = canonical({"version": 1, "format": "\x1b[2J" * 1000, "files": named})
    for evil in (manifest, canonical({"version": "\x1b[2J\u202e" * 1000}), b'{"\\u001b[2J":1}', b'{"\x1b":1}'):
        bundle.write_bytes(pack(files | {"manifest.json": evil}))
        status, said = verify(bundle)
        assert status == 1
        assert all(char == "\n" or char.isprintable() for char in said)
        assert len(said) < 5000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\tb\n c", "a b c"),
        ("\x1b[31mred\x7f", "[31mred"),
        ("\u202egnp.exe\u2069", "gnp.exe"),
        ("é 漢字 😀", "é 漢字 😀"),
        ("\ud800\ue000\ufeff", ""),
        ("x" * 300, "x" * 199 + "…"),
        (None, ""),
        (5, "5"),
    ],
)
def test_what_is_printed_is_one_plain_line(text, shown):
    assert printable(text) == shown
