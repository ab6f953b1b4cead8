"""sha256 of files that may be large: worked out once, and remembered until a file changes.

What is remembered lies in ``digests.json`` in $FEATURESCOPE_CACHE, else in ``featurescope`` in the user's cache folder.
A digest is kept under the real path, size, times and inode of every file in it, so a file that is replaced or written
to is read again. Losing that file costs time and nothing else.
"""

import contextlib
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

BLOCK = 1 << 20
MAX_REMEMBERED = 4096
MAX_CACHE_BYTES = 4 << 20
# Clocks of file systems tick coarsely: what was written a moment ago could change again without a new time.
SETTLED_NS = 2_000_000_000

_HEX = re.compile(r"[0-9a-f]{64}")


def file_sha256(path: Path) -> bytes:
    """sha256 of the bytes of one file, 32 bytes long. Raises OSError."""
    return bytes.fromhex(_remembered("file", [path], lambda: _hash(path)))


def weights_sha256(files: Sequence[Path]) -> str:
    """sha256 over the names and bytes of ``files`` in the order given, in hex. Raises OSError."""
    names = "/".join(file.name for file in files)
    return _remembered(f"weights {names}", files, lambda: _hash(*files, names=True))


def cache_folder() -> Path:
    if named := os.environ.get("FEATURESCOPE_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "featurescope"


def _hash(*files: Path, names: bool = False) -> str:
    digest = hashlib.sha256()
    for path in files:
        if names:
            digest.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(BLOCK):
                digest.update(block)
    return digest.hexdigest()


def _remembered(kind: str, files: Sequence[Path], work_out: Callable[[], str]) -> str:
    key, newest = _key(kind, files)
    known = _read().get(key)
    if known is not None:
        return known
    digest = work_out()
    if time.time_ns() - newest > SETTLED_NS and _key(kind, files)[0] == key:
        _remember(key, digest)
    return digest


def _key(kind: str, files: Sequence[Path]) -> tuple[str, int]:
    """What tells these files, as they are now, from all others; and when the last of them was changed, in ns."""
    facts: list[object] = [kind]
    newest = 0
    for path in files:
        real = path.resolve()
        stat = real.stat()
        facts.append([os.fsdecode(real), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_dev, stat.st_ino])
        newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest(), newest


def _read() -> dict[str, str]:
    try:
        with (cache_folder() / "digests.json").open("rb") as file:
            text = file.read(MAX_CACHE_BYTES + 1)
        found = json.loads(text) if len(text) <= MAX_CACHE_BYTES else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str) and _HEX.fullmatch(value)}


def _remember(key: str, digest: str) -> None:
    """The newest come last, and the oldest go. Of two processes that write at once, one loses its line, no more."""
    known = list({**_read(), key: digest}.items())[-MAX_REMEMBERED:]
    with contextlib.suppress(OSError):
        write_atomically(cache_folder() / "digests.json", json.dumps(dict(known), indent=0))


def write_atomically(path: Path, text: str) -> None:
    """``text`` at ``path``, whole or not at all, whoever else writes there. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("x") as file:
            file.write(text)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
