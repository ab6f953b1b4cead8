"""The page that a link opens, in process, on a site with thousands of snapshots; and what freezing and exporting cost.

Every link is opened once: no page is asked for twice, so that what the process keeps helps none of them.
"""

import random
import time
from typing import Any

import numpy as np
from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.urls import reverse

from features.models import Activity, Freezing, ShareLink, Snapshot
from features.sharing import exporting, freezing, links
from jobs.bench.timing import Address, ask, summary
from jobs.bench.web import database_bytes, fill

SNAPSHOTS, EXPORTS = 10_000, 20
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"


def measure(n_features: int, requests: int, n_snapshots: int = SNAPSHOTS) -> dict[str, Any]:
    """Milliseconds of the shared page (``timing.summary``), of freezing one and of exporting one, and bytes."""
    fill(n_features)
    call_command("collectstatic", verbosity=0, interactive=False)
    user = User.objects.get_or_create(username="bench", defaults={"is_staff": True})[0]
    before = database_bytes()
    froze = _freeze(user, n_snapshots)
    tokens = _links(user, requests)
    client = Client(headers={"host": "localhost", "user-agent": BROWSER}, raise_request_exception=False)
    pages = [Address("feature", reverse("shared", args=[token])) for token in tokens]
    ask(client, pages.pop())  # loads templates
    seconds, size = _export()
    return {
        "vendor": connection.vendor,
        "n_snapshots": Snapshot.objects.count(),
        "freeze_p50_ms": float(np.median(froze)) * 1000,
        "export_p50_ms": seconds * 1000,
        "archive_kib": size / 1024,
        "bytes_per_snapshot": (database_bytes() - before) / max(1, len(froze)),
        "page": summary([ask(client, page) for page in pages]),
    }


def _freeze(user: Any, n: int) -> list[float]:
    """Seconds for each of ``n`` features, as the page's button does it; on a site that has them already, none."""
    wanted = n - Freezing.objects.count()
    alive = Activity.objects.filter(density__gt=0).select_related("run__sae").only("index", "run__sae__slug")
    took = []
    for activity in alive.order_by("run", "index")[: max(0, wanted)]:
        began = time.perf_counter()
        freezing.freeze("feature", {"sae": activity.run.sae.slug, "index": activity.index}, user)
        took.append(time.perf_counter() - began)
    return took or [0.0]


def _links(user: Any, requests: int) -> list[str]:
    """A link to every snapshot, and one more to those that are opened: their tokens, ``requests`` and one."""
    keys = list(Snapshot.objects.order_by("pk").values_list("pk", flat=True))
    opened = set(random.Random(3).sample(keys, min(len(keys), requests + 1)))  # noqa: S311 - which pages, no secret
    chosen = Snapshot.objects.defer("packed", "page").filter(pk__in=opened)
    tokens = [links.issue(snapshot, user)[1] for snapshot in chosen]
    ShareLink.objects.bulk_create(
        (
            ShareLink(snapshot_id=key, token_digest=f"{key:064x}", by=user, expires_at="2100-01-01T00:00Z")
            for key in keys
        ),
        batch_size=1000,
        ignore_conflicts=True,
    )
    return tokens


def _export() -> tuple[float, float]:
    """Median seconds and bytes of an archive."""
    took, sizes = [], []
    for snapshot in Snapshot.objects.order_by("-pk")[:EXPORTS]:
        began = time.perf_counter()
        sizes.append(len(exporting.archive_of(snapshot, "http://localhost/")))
        took.append(time.perf_counter() - began)
    return float(np.median(took)), float(np.median(sizes))
