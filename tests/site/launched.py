"""`manage.py serve` in a process and a folder of its own, as a person starts it."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from django.conf import settings

ADDRESS = re.compile(r"^Open http://127\.0\.0\.1:(\d+)(/login/\S+/)$")


class Launch:
    """One run of the command, with ``FEATURESCOPE_VAR`` in a folder of the test's."""

    def __init__(self, var: Path, *flags: str) -> None:
        self.var = var
        environment = {k: v for k, v in os.environ.items() if k not in {"REDIS_URL", "DATABASE_URL", "SECRET_KEY"}}
        environment |= {"FEATURESCOPE_VAR": str(var), "DJANGO_SETTINGS_MODULE": "interp_site.settings"}
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "serve", *flags],
            cwd=settings.BASE_DIR,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def address(self) -> tuple[int, str]:
        """Port and path that it says to open."""
        assert self.process.stdout
        said = []
        for line in self.process.stdout:
            said.append(line)
            if found := ADDRESS.match(line.rstrip()):
                return int(found[1]), found[2]
        raise AssertionError("".join(said))

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Exit status, and what else it said."""
        if number:
            self.process.send_signal(number)
        said, _ = self.process.communicate(timeout=60)
        return self.process.returncode, said

    def processes(self, named: str = "") -> list[int]:
        """Every process that lives with this launch's folder in its environment."""
        mark = f"FEATURESCOPE_VAR={self.var}\0".encode()
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        return [pid for pid in pids if _has(pid, mark, named)]

    def wait_until_gone(self, seconds: float = 20) -> bool:
        deadline = time.monotonic() + seconds
        while self.processes() and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.processes()


def _has(pid: int, mark: bytes, named: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        return mark in environment and named.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
