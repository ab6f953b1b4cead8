"""Pages and searches over a million features, in process: what the server needs for each kind of page.

Every page is asked for twice. The first time reads from the disk what nobody had asked for; the second one counts, and
both are told.
"""

import subprocess
import sys
import time
from collections.abc import Collection
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client

from features.models import Feature, LanguageModel, Star
from jobs.bench.addresses import Site, addresses
from jobs.bench.timing import ask, summary

REQUESTS = 200
GENERATOR = "tests.scale"  # it lives with the tests that check it


def measure(n_features: int, requests: int = REQUESTS, only: Collection[str] = ()) -> dict[str, Any]:
    """By kind of page, of all or of ``only`` some, what ``timing.summary`` tells.

    A database that holds models already is taken as it is.
    """
    seconds = fill(n_features)
    call_command("collectstatic", verbosity=0, interactive=False)  # pages name their files by digests
    client = Client(headers={"host": "localhost"}, raise_request_exception=False)
    client.force_login(_reader())
    import_module(settings.WSGI_APPLICATION.rpartition(".")[0])  # as gunicorn does: it sets when garbage is collected
    kinds = {}
    for kind, pages in addresses(Site.read(seed=2), requests).items():
        if not only or kind in only:
            first, again = ([ask(client, page) for page in pages] for _ in range(2))
            kinds[kind] = summary(again) | {"first_p95": summary(first)["p95"]}
    return {
        "vendor": connection.vendor,
        "n_features": Feature.objects.count(),
        "bytes": database_bytes(),
        "fill_s": seconds,
        "kinds": kinds,
    }


def fill(n_features: int, only: int | None = None) -> float | None:
    """Seconds that the generator took, in a process of its own; None where there was no need for it."""
    if LanguageModel.objects.exists():
        return None
    began = time.perf_counter()
    command = [sys.executable, "-m", GENERATOR, "--features", str(n_features)]
    command += [] if only is None else ["--only", str(only)]
    subprocess.run(command, cwd=settings.BASE_DIR, check=True, stdout=sys.stderr)
    return time.perf_counter() - began


def _reader() -> User:
    """Somebody with a few stars."""
    user, made = User.objects.get_or_create(username="bench")
    if made:
        features = Feature.objects.order_by("pk").values_list("pk", flat=True)[:40]
        Star.objects.bulk_create(Star(user=user, feature_id=feature) for feature in features)
    return user


def database_bytes() -> int:
    """Everything in it, indexes included."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_database_size(current_database())")
        else:
            cursor.execute("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")
        (found,) = cursor.fetchone()
    return int(found)
