"""Frozen evidence of every kind, the links that open it, and a snapshot that another site signed."""

import json
from datetime import timedelta
from typing import Any

from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone

from features.knowledge import labelling
from features.models import LinkView, ShareLink, Snapshot
from features.sharing import bundle, freezing, links, rendering, shapes
from features.sharing.canonical import canonical
from features.sharing.signing import read_signer
from jobs.models import Trial
from tests.browser.seed.evidence import LABELLED, Made

# A key of nobody's, so that pictures of what it signed are the same each time.
ELSEWHERE = b"""-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
"""


def make(made: Made, grace: User) -> dict[str, str]:
    """The pages that come with it."""
    slug, ada = made.sae.slug, made.user
    named: dict[str, dict[str, Any]] = {
        "feature": {"sae": slug, "index": LABELLED},
        "comparison": {"a": f"{slug}/{LABELLED}", "b": f"{slug}/{LABELLED + 3}"},
        "run": {"run": made.run.pk},
        "collection": {"collection": "time-words"},
        "text": {"trial": Trial.objects.filter(state=Trial.State.DONE).latest("pk").pk},
    }
    snapshots = {kind: freezing.freeze(kind, names, ada) for kind, names in named.items()}
    labelling.give([made.features[LABELLED]], "months", ada)
    newer = freezing.freeze("feature", named["feature"], ada)
    labelling.give([made.features[LABELLED]], "months and seasons", ada)
    shared = {kind: opened(snapshot, ada) for kind, snapshot in snapshots.items()}
    links.issue(newer, grace, note="for the board")
    visited = ShareLink.objects.order_by("pk")[0]
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"
    for hours, who, robot in ((30, "", True), (29, "ben", False), (2, "", False)):
        said = "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)" if robot else agent
        at = timezone.now() - timedelta(hours=hours)
        LinkView.objects.create(link=visited, at=at, address="192.0.2.7", agent=said, who=who, robot=robot)
    links.revoke(links.issue(snapshots["run"], ada, note="the first one, sent to the wrong person")[0], ada)
    return {
        **{f"shared {kind}": address for kind, address in shared.items()},
        "locked": opened(snapshots["feature"], ada, password="a long enough password"),
        "gone": reverse("shared", args=["x" * 32]),
        "snapshots": reverse("snapshots"),
        "snapshot": snapshots["feature"].get_absolute_url(),
        "received": _received(grace).get_absolute_url(),
        "links": reverse("links"),
        "link": reverse("link", args=[visited.pk]),
        "receive": reverse("receive"),
    }


def opened(snapshot: Snapshot, user: User, password: str = "") -> str:
    """The address of a new link to it."""
    return reverse("shared", args=[links.issue(snapshot, user, password=password)[1]])


def _received(user: User) -> Snapshot:
    """The newest snapshot under another name, as another site would have exported it."""
    content = json.loads(freezing.body_of(Snapshot.objects.filter(kind="run").latest("pk")))
    body = canonical(content | {"title": "Quality of a run at another lab"})
    frozen = shapes.read(body)
    figures = {name: svg.encode() for name, svg in rendering.figures_of(frozen).items()}
    record = {"site": "https://lab.example.org/", "frozen": [{"by": "lin", "at": "2026-11-02T09:14:00Z"}]}
    archive = bundle.make_bundle(body, b"<!doctype html><title>a page</title>", figures, record, read_signer(ELSEWHERE))
    return freezing.receive(archive, user).snapshot
