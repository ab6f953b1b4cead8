"""What the tests of links and archives share: who visits, what lies in the database, and archives of other sites."""

import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.apps import apps
from django.contrib.auth.models import User
from django.test import Client

from features.models import Freezing, Received, ShareLink, Snapshot
from features.sharing import bundle, freezing, links
from features.sharing.canonical import canonical
from features.sharing.signing import Signer
from tests.factories import World

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
SECRET = "rain falls on seven rivers"
INDEX = 9
KEEPS: tuple[Any, ...] = (Snapshot, Freezing, Received, ShareLink)
"""What must not change because somebody asks for something."""


def visitor(**more: Any) -> Client:
    """Somebody without an account, with a browser."""
    return Client(headers={"user-agent": BROWSER}, **more)


def signed_in(user: User) -> Client:
    client = visitor()
    client.force_login(user)
    return client


def frozen_feature(world: World, index: int = INDEX) -> Snapshot:
    return freezing.freeze("feature", {"sae": world.sae.slug, "index": index}, world.user)


def shared(world: World, **more: Any) -> tuple[ShareLink, str]:
    """A link of the world's user, and its address."""
    link, token = links.issue(frozen_feature(world), world.user, **more)
    return link, f"/s/{token}"


def kept() -> list[dict[str, Any]]:
    return [row for model in KEEPS for row in model.objects.order_by("pk").values()]


def stored() -> str:
    """Everything that is in the database, as text."""
    models = apps.get_models(include_auto_created=True)
    cells = [cell for model in models for row in model._default_manager.values_list() for cell in row]
    return repr([bytes(cell) if isinstance(cell, memoryview) else cell for cell in cells])


def headers(answer: Any) -> dict[str, str]:
    return dict(answer.items()) | {name: str(cookie) for name, cookie in answer.cookies.items()}


def content(snapshot: Snapshot) -> Any:
    """Its JSON, to be changed."""
    return json.loads(freezing.body_of(snapshot))


def another_site() -> Signer:
    return Signer(Ed25519PrivateKey.generate())


def archive(given: Any, signer: Signer | None = None, record: Mapping[str, Any] | None = None) -> bytes:
    """What another site would export of this JSON, or of these bytes."""
    body = given if isinstance(given, bytes) else canonical(given)
    said = {"site": "https://elsewhere.example/", "frozen": []} if record is None else record
    return bundle.make_bundle(body, b"<!doctype html>", {}, said, signer or another_site())
