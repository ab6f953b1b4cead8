"""Pages and searches over a million features, in process and warm: what the server needs for each kind of page."""

import subprocess
import sys
import time
from collections.abc import Collection
from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client

from features.models import Feature, LanguageModel, Star
from jobs.bench.addresses import Site, addresses
from jobs.bench.timing import ask, summary

REQUESTS, WARMING = 200, 80
GENERATOR = "tests.scale"  # it lives with the tests that check it


def measure(n_features: int, requests: int = REQUESTS, only: Collection[str] = ()) -> dict[str, Any]:
    """By kind of page, of all or of ``only`` some, what ``timing.summary`` tells.

    A database that holds models already is taken as it is.
    """
    seconds = fill(n_features)
    call_command("collectstatic", verbosity=0, interactive=False)  # pages name their files by digests
    client = Client(headers={"host": "localhost"}, raise_request_exception=False)
    client.force_login(_reader())
    warming, asked = addresses(Site.read(seed=1), min(WARMING, requests)), addresses(Site.read(seed=2), requests)
    kinds = {}
    for kind, pages in asked.items():
        if only and kind not in only:
            continue
        for page in warming[kind]:
            ask(client, page)
        kinds[kind] = summary([ask(client, page) for page in pages])
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
