"""The queues that workers take messages from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import current_app
from django.conf import settings
from kombu import Connection
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

INTERACTIVE = "interactive"
PATIENCE = {"socket_connect_timeout": 2, "socket_timeout": 2, "max_retries": 1, "interval_start": 0, "interval_step": 0}


class QueueDown(Exception):
    """Redis does not answer."""


def names() -> list[str]:
    """Every queue that something is sent to."""
    routed = {route["queue"] for route in settings.CELERY_TASK_ROUTES.values()}
    return sorted({settings.CELERY_TASK_DEFAULT_QUEUE, *routed})


def send(task: Any, *args: Any) -> None:
    """Send one message while somebody waits: a Redis that is down is known of in an instant. Raises QueueDown."""
    with _link() as link:
        task.apply_async(args, connection=link, retry=False)


def lengths() -> dict[str, int]:
    """Messages of each queue that no worker has taken. Raises QueueDown."""
    with _link() as link:
        channel: Any = link.default_channel  # Redis's own
        return {name: int(channel.client.llen(name)) for name in names()}


def answers() -> bool:
    """Whether Redis is there."""
    try:
        lengths()
    except QueueDown:
        return False
    return True


@contextmanager
def _link() -> Iterator[Connection]:
    try:
        with current_app.connection_for_write(transport_options=PATIENCE) as link:
            yield link
    except (OperationalError, RedisError, OSError) as error:
        raise QueueDown from error
