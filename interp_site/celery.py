"""The Celery application. Its settings are the CELERY_ ones of settings.py."""

import os
from typing import Any

from celery import Celery
from celery.signals import worker_ready, worker_shutdown, worker_shutting_down

from jobs import leaving  # before a worker forks: its children look where it writes

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "interp_site.settings")

app = Celery("featurescope")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_ready.connect
def _start_sweeping(sender: Any, **kwargs: Any) -> None:
    from jobs import presence, sweep

    presence.start(sender.hostname, list(sender.app.amqp.queues.consume_from))
    sweep.start()


@worker_shutting_down.connect
def _let_go(**kwargs: Any) -> None:
    """Its children stop after the batch that they are at, and leave the rest to other workers."""
    leaving.ask()


@worker_shutdown.connect
def _say_goodbye(**kwargs: Any) -> None:
    from jobs import presence

    presence.leave()
