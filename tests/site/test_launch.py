"""`manage.py serve` with a real Redis, worker and gunicorn: it serves, and leaves nothing behind."""

import os
import signal
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.site.launched import Launch

pytestmark = pytest.mark.slow


def get(port: int, path: str) -> tuple[int, str | None]:
    connection = HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path)
    response = connection.getresponse()
    return response.status, response.getheader("Set-Cookie")


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder for every launch here. Its name is one that an address has to quote."""
    return tmp_path_factory.mktemp("vär #1 50%")


@pytest.fixture
def launch(var: Path) -> Iterator[Launch]:
    launched = Launch(var, "--port", "0")
    yield launched
    if launched.process.poll() is None:
        launched.end(signal.SIGTERM)


def test_it_serves_signs_in_once_and_ends_without_leaving_anything(launch: Launch) -> None:
    port, path = launch.address()
    assert {bool(launch.processes(name)) for name in ("redis-server", "celery", "gunicorn")} == {True}
    status, cookie = get(port, path)
    assert status == 302
    assert "sessionid=" in (cookie or "")
    assert get(port, path)[0] == 410
    assert get(port, "/api/v1/saes")[0] == 401
    other = Launch(launch.var, "--port", str(port))
    status, said = other.end()
    assert (status, said) == (
        1,
        f"CommandError: Port {port} cannot be used (address already in use): choose another one with --port.\n",
    )
    assert launch.end(signal.SIGINT)[0] == 0
    assert launch.processes() == []
    assert not list((launch.var / "redis").glob("*.sock"))


def test_again_it_redoes_nothing_and_says_which_child_died(launch: Launch) -> None:
    collected = launch.var / "static" / "staticfiles.json"
    before = collected.stat().st_mtime_ns if collected.exists() else None
    launch.address()
    assert before in {None, collected.stat().st_mtime_ns}
    worker = min(launch.processes("celery"))
    os.kill(worker, signal.SIGKILL)
    status, said = launch.end()
    assert status == 1
    assert f"The worker stopped by itself (exit status -9). The end of {launch.var}/log/worker.log:" in said
    assert "ready." in said
    assert launch.processes() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent is gone")
def test_killed_outright_it_takes_its_children_along(launch: Launch) -> None:
    launch.address()
    assert len(launch.processes()) > 4
    launch.end(signal.SIGKILL)
    assert launch.wait_until_gone()


def test_what_is_in_the_way_of_redis_is_said(tmp_path: Path) -> None:
    (tmp_path / "redis").symlink_to(tmp_path)
    status, said = Launch(tmp_path, "--port", "0").end()
    assert status == 1
    assert said.splitlines()[-1].startswith(f"CommandError: {tmp_path}/redis belongs to another user: ")
