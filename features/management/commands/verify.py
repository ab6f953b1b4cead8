"""``manage.py verify``: whether a bundle of frozen evidence is what was signed. It needs no database and no network."""

import re
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from features.sharing.archive import LIMIT
from features.sharing.bundle import Verdict, check
from features.sharing.signing import WrongKey

FAULTS = 50  # that are shown
FREEZINGS = 5
KEY_BYTES = 10_000


class Command(BaseCommand):
    help = (
        "Check a bundle of frozen evidence, offline: name every file and part that was changed since it was signed. "
        "Exits with 1 if there is one, or if --key is not the key that signed it."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", help="the bundle, as it was downloaded")
        parser.add_argument("--key", help="the public key that should have signed it: a PEM file, or its fingerprint")

    def handle(self, *args: Any, **options: Any) -> None:
        key = None if options["key"] is None else _key(options["key"])
        data = _content(Path(options["file"]), LIMIT)
        if not data:
            raise CommandError(f"{options['file']} is empty.")
        try:
            verdict = check(data, key)
        except WrongKey as error:
            raise CommandError(f"--key {options['key']}: {error}") from error
        for name, value in _report(verdict):
            self.say(f"  {name:<16} {value}")
        if not verdict.ok:
            self.say("\nNOT PROVEN:")
            for fault in verdict.faults[:FAULTS]:
                self.say(f"  {printable(fault, 500)}")
            if len(verdict.faults) > FAULTS:
                self.say(f"  and {len(verdict.faults) - FAULTS:,} more")
            sys.exit(1)
        self.say("\nNothing was changed.")
        if verdict.trusted is None:
            self.say("Anybody can sign: compare the fingerprint with the one that the site publishes at /evidence-key.")

    def say(self, line: str) -> None:
        """What the terminal's encoding lacks is shown as ?."""
        encoding = getattr(self.stdout, "encoding", None) or "utf-8"
        self.stdout.write(line.encode(encoding, "replace").decode(encoding))


def printable(value: Any, limit: int = 200) -> str:
    """Text from a file in one line of a terminal, in which it can neither move the cursor nor turn the direction."""
    text = value if isinstance(value, str) else "" if value is None else str(value)
    text = re.sub(r"\s+", " ", text[: 4 * limit]).strip()
    text = "".join(char for char in text if unicodedata.category(char)[0] != "C")
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _report(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """Names and values, of what the file says; what it does not say is left out."""
    record = verdict.record
    said: list[tuple[str, Any]] = [("digest", verdict.digest), ("kind", verdict.kind), ("title", verdict.title)]
    for frozen in _records(record.get("frozen")):
        said.append(("frozen", f"by {printable(frozen.get('by'))} at {printable(frozen.get('at'))}"))
        said.append(("of", frozen.get("subject")))
        said.append(("supersedes", frozen.get("supersedes")))
    said += [("superseded by", after.get("digest")) for after in _records(record.get("superseded_by"))]
    said += [("site", record.get("site")), ("exported at", record.get("exported_at"))]
    said.append(("signed by", verdict.fingerprint + (", the key that was given" if verdict.trusted else "")))
    for name, value in said:
        if shown := printable(value, 500):
            yield name, shown


def _records(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)][:FREEZINGS] if isinstance(value, list) else []


def _key(given: str) -> bytes:
    """A fingerprint is itself, and anything else the name of a file."""
    if re.fullmatch("[0-9a-fA-F]{64}", given):
        return given.encode()
    return _content(Path(given), KEY_BYTES)


def _content(path: Path, limit: int) -> bytes:
    """Raises CommandError in one sentence for what is no file of ``limit`` bytes at most."""
    try:
        if path.exists() and not path.is_file():  # a device would never end
            raise CommandError(f"{path} is no file.")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}.") from error
    if len(data) > limit:
        raise CommandError(f"{path} has more than {limit:,} bytes, so it is not what it should be.")
    return data
