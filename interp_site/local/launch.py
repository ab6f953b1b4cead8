"""The parts of a launch: database and static files, Redis, two workers, the web server, and a way in."""

import os
import socket
import sys
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.urls import reverse
from kombu.exceptions import OperationalError

from features.models import LoginToken
from interp_site.celery import app
from interp_site.local.processes import Child, Children
from interp_site.local.queue import resend
from interp_site.local.redis import find_redis, redis_command
from interp_site.local.static import collect_static

HOST = "127.0.0.1"
THREADS = 8


class CannotLaunch(Exception):
    """Something is missing or in the way. The message says what to do."""


def listen(port: int) -> socket.socket:
    """The web server's socket, taken before anything else is done; 0 takes any free port."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
    except OSError as error:
        listener.close()
        why = os.strerror(error.errno or 0).lower()
        raise CannotLaunch(f"Port {port} cannot be used ({why}): choose another one with --port.") from error
    listener.listen(256)
    return listener


def prepare_site() -> None:
    call_command("migrate", verbosity=0, interactive=False)
    collect_static()


def start_redis(children: Children) -> None:
    """Start a Redis of our own, unless one answers already or REDIS_URL names another."""
    if broker_answers():
        return
    if not settings.REDIS_IS_LOCAL:
        raise CannotLaunch("The Redis that REDIS_URL names does not answer: start it, or unset REDIS_URL.")
    server = find_redis()
    if server is None:
        raise CannotLaunch("There is no redis-server here: run `make install`.")
    children.start(_child("redis", redis_command(server)), broker_answers)
    children.wait()
    resend()


def start_worker(children: Children) -> None:
    """For jobs, which may take hours."""
    _start_worker(children, "worker", "local", "extract,default")


def start_interactive(children: Children) -> None:
    """For texts that somebody waits for. It loads no model library before the first of them."""
    _start_worker(children, "interactive worker", "interactive", "interactive")


def start_web(children: Children, listener: socket.socket) -> None:
    flags = ["--bind", f"fd://{listener.fileno()}", "--worker-class", "gthread", "--threads", str(THREADS)]
    flags += ["--limit-request-line", "8190"]  # an address may list a thousand features
    command = [sys.executable, "-m", "gunicorn", "interp_site.wsgi", *flags, "--no-control-socket"]
    port = listener.getsockname()[1]
    children.start(_child("web", command, [listener.fileno()]), lambda: _web_answers(port))


def local_user() -> User:
    """``demo``, whose only way in is the address that a launch prints: a person without a password."""
    user, is_new = User.objects.get_or_create(username="demo", defaults={"is_staff": True})
    if is_new:
        user.set_unusable_password()
        user.save(update_fields=["password"])
    return user


def way_in(port: int) -> str:
    """An address that signs in its first visitor."""
    path = reverse("login_token", args=[LoginToken.objects.issue(local_user())])
    return f"http://{HOST}:{port}{path}"


def broker_answers() -> bool:
    with app.connection_for_write() as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0, timeout=2)
        except OperationalError:
            return False
    return True


def _start_worker(children: Children, name: str, prefix: str, queues: str) -> None:
    """The pool keeps its process for as long as it lives, and with it the models that are loaded."""
    node = f"{prefix}-{os.getpid()}@{socket.gethostname()}"
    flags = ["--hostname", node, "--queues", queues, "--pool", "prefork", "--concurrency", "1"]
    flags += ["--loglevel", "INFO", "--without-gossip", "--without-mingle"]
    command = [sys.executable, "-m", "celery", "--app", "interp_site", "worker", *flags]
    children.start(_child(name, command), lambda: _worker_answers(node))


def _worker_answers(node: str) -> bool:
    return bool(app.control.inspect([node], timeout=1).ping())


def _web_answers(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=5)
    try:
        connection.request("GET", reverse("login"))
        return connection.getresponse().status < 500
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _child(name: str, command: Sequence[str], fds: Sequence[int] = ()) -> Child:
    return Child(name, command, settings.VAR_DIR / "log" / f"{name.replace(' ', '-')}.log", fds)
