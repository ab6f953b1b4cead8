"""Every page of the demo, in process: what the server needs for it, warm."""

import statistics
import time
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import CommandError
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from features.models import Activity, Run
from jobs import demo

REPEATS = 20


def measure() -> dict[str, Any]:
    """Median milliseconds, queries and KiB of each page, read by somebody who is gone afterwards."""
    has_tables = Run._meta.db_table in connection.introspection.table_names()
    run = (demo.ready_run() or Run.objects.latest_first().first()) if has_tables else None
    if run is None:
        raise CommandError("There is no run to show on pages: `make demo` first.")
    with transaction.atomic():
        client = Client(headers={"host": "localhost"})
        client.force_login(User.objects.create_user("bench"))
        found = {name: _page(client, url) for name, url in _urls(run).items()}
        transaction.set_rollback(True)
    return found


def _urls(run: Run) -> dict[str, str]:
    index = Activity.objects.filter(run=run, density__gt=0).order_by("-max_activation")[100].index
    base = f"/saes/{run.sae.slug}/"
    return {
        "home": "/",
        "SAE": base,
        "run": f"/runs/{run.pk}/",
        "features": f"{base}features/",
        "features, by maximum": f"{base}features/?order=-max",
        "features, search": f"{base}features/?q=water",
        "feature": f"{base}features/{index}/",
        "jobs": "/jobs/",
        "API: a feature": f"/api/v1{base}features/{index}",
        "API: a page of features": f"/api/v1{base}features",
    }


def _page(client: Client, url: str) -> dict[str, float]:
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(url)
    n_queries = len(queries)  # the next request empties the log
    if answer.status_code != 200:
        raise CommandError(f"{url} answered {answer.status_code}.")
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        client.get(url)
        times.append((time.perf_counter() - began) * 1000)
    return {"ms": statistics.median(times), "queries": n_queries, "kib": len(answer.content) / 1024}
