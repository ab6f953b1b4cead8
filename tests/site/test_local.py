"""What a launch prepares: Redis's folder and command, static files, and jobs that an earlier launch left."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from django.utils import timezone
from pytest_django.fixtures import Settings

from interp_site.local.launch import CannotLaunch, listen
from interp_site.local.queue import resend
from interp_site.local.redis import UnsafeFolder, find_redis, private_folder, redis_command
from interp_site.local.static import collect_static
from jobs import tasks
from jobs.models import Job


def test_the_folder_of_the_socket_is_private(tmp_path: Path) -> None:
    folder = tmp_path / "redis"
    folder.mkdir(mode=0o777)
    assert private_folder(folder).stat().st_mode & 0o777 == 0o700


def test_a_folder_that_points_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UnsafeFolder, match="belongs to another user"):
        private_folder(tmp_path / "link")


def test_redis_answers_on_its_socket_and_on_no_port(tmp_path: Path, settings: Settings) -> None:
    settings.REDIS_SOCKET = tmp_path / "redis" / "redis.sock"
    server = find_redis()
    assert server
    process = subprocess.Popen(redis_command(server), stdout=subprocess.DEVNULL)
    try:
        assert ask(settings.REDIS_SOCKET, "CONFIG GET port") == ["*2", "$4", "port", "$1", "0"]
        assert ask(settings.REDIS_SOCKET, "CONFIG GET save")[-1] == ""
    finally:
        process.terminate()
        process.wait(10)


def ask(path: Path, command: str) -> list[str]:
    deadline = time.monotonic() + 10
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        client.sendall(f"{command}\r\n".encode())
        return client.recv(4096).decode().removesuffix("\r\n").split("\r\n")


@pytest.mark.parametrize("length", [10, 150])
def test_a_long_folder_gets_a_short_socket(tmp_path: Path, length: int) -> None:
    folder = tmp_path / "é #?%".ljust(length, "x")
    code = "from django.conf import settings as s; print(s.REDIS_SOCKET, s.REDIS_URL, sep='\\n')"
    environment = os.environ | {"FEATURESCOPE_VAR": str(folder), "DJANGO_SETTINGS_MODULE": "interp_site.settings"}
    environment.pop("REDIS_URL", None)
    said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    path, url = said.stdout.splitlines()
    assert len(path.encode()) <= 107
    assert (Path(path) == folder / "redis" / "redis.sock") == (length < 20)
    assert unquote(url) == f"redis+socket://{path}"
    assert not set(url) & set(" #?")


def test_a_port_that_is_taken_is_named() -> None:
    with listen(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            CannotLaunch, match=rf"^Port {port} cannot be used \(address already in use\): .* --port\.$"
        ):
            listen(port)


def test_static_files_are_collected_once(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("1")
    settings.STATICFILES_DIRS = [tmp_path / "mine"]
    settings.STATICFILES_FINDERS = ["django.contrib.staticfiles.finders.FileSystemFinder"]
    settings.VAR_DIR, settings.STATIC_ROOT = tmp_path, tmp_path / "static"
    collect_static()
    collected = settings.STATIC_ROOT / "a.txt"
    collected.write_text("untouched")
    collect_static()
    assert collected.read_text() == "untouched"
    (tmp_path / "mine" / "a.txt").write_text("22")
    collect_static()
    assert collected.read_text() == "22"


@pytest.mark.django_db
def test_jobs_that_were_left_are_sent_again(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    sent: list[int] = []
    monkeypatch.setattr(tasks.run_extraction, "delay", sent.append)
    gone = subprocess.Popen(["true"])
    gone.wait()
    host = socket.gethostname()

    def job(state: str, worker: str = "") -> int:
        return Job.objects.create(state=state, worker=worker, settings={}, heartbeat_at=timezone.now()).pk

    queued = job("queued")
    dead = job("running", f"{host}:{gone.pid}:a1b2c3")
    alive = job("running", f"{host}:{os.getpid()}:a1b2c3")
    elsewhere = job("running", f"another-{host}:{gone.pid}:a1b2c3")
    for state in ("done", "failed", "cancelled"):
        job(state, f"{host}:{gone.pid}:a1b2c3")
    with django_capture_on_commit_callbacks(execute=True):
        resend()
    assert sorted(sent) == sorted([queued, dead])
    assert [Job.objects.claim(pk, "new") for pk in (queued, dead, alive, elsewhere)] == [True, True, False, False]
