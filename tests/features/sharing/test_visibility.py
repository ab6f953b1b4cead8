"""Who finds a snapshot: everybody, if everybody could see what it shows; else whoever froze it, and reviewers."""

import re
from typing import Any

import numpy as np
import pytest
from django.contrib.auth.models import User
from django.test import Client

from features.knowledge import collecting
from features.models import Feature, Freezing, Role, ShareLink, Snapshot
from features.sharing import freezing, links
from features.store.contexts import pack_tokens
from jobs.models import Trial
from tests.factories import BOS, IDS, NAMED, World, make_user
from tests.features.sharing.helpers import frozen_feature, signed_in, visitor

TEXT = "a secret river"


def tried(world: World, user: User) -> Trial:
    """A text of ``user`` that has its answer."""
    ids = [BOS, IDS[b" river"]]
    answer: dict[str, Any] = {"run": None, "sinks": [], "near": None, "n_tokens": 2, "loading": 0.0}
    return Trial.objects.create(
        sae=world.sae, index=NAMED, text=TEXT, owner=user, token_ids=pack_tokens(ids), provenance=answer,
        result=np.array([0, 1.5], "<f4").tobytes(), state=Trial.State.DONE, device="cpu",
    )  # fmt: skip


def private(kind: str, world: World, user: User) -> Snapshot:
    if kind == "text":
        return freezing.freeze("text", {"trial": tried(world, user).pk}, user)
    held = collecting.create(user, "Secret rain")
    collecting.add(held, [Feature.objects.get(sae=world.sae, index=NAMED).pk], user)
    return freezing.freeze("collection", {"collection": held.slug}, user)


def asked(client: Client, snapshot: Snapshot) -> set[int]:
    page, api = snapshot.get_absolute_url(), f"/api/v1/snapshots/{snapshot.digest}"
    answers: list[Any] = [client.get(page), client.get(f"{page}evidence.zip"), client.get(api)]
    answers += [client.get(f"{api}/export"), client.post(f"{api}/links", {}, content_type="application/json")]
    answers += [client.post(f"{page}links/")]
    return {answer.status_code for answer in answers}


@pytest.mark.parametrize("kind", ["text", "collection"])
def test_what_is_private_is_found_by_nobody_but_its_owner_and_reviewers(kind: str, world: World) -> None:
    snapshot = private(kind, world, world.user)
    for role in (Role.RESEARCHER, Role.REVIEWER, Role.ADMINISTRATOR):
        client = signed_in(make_user(str(role.label), role=role))
        sees = role >= Role.REVIEWER
        assert asked(client, snapshot) == ({200} if sees else {404}), role
        assert (snapshot.digest[:12] in client.get("/snapshots/").content.decode()) is sees
        assert (snapshot.title in client.get("/links/").content.decode()) is sees
    assert asked(signed_in(world.user), snapshot) == {200}
    made_by = set(ShareLink.objects.values_list("by__username", flat=True))
    assert made_by == {world.user.username, Role.REVIEWER.label, Role.ADMINISTRATOR.label}


def said(client: Client, address: str, digest: str) -> str:
    """Without what was asked for, and the token that every page makes anew."""
    answer = client.get(address)
    assert answer.status_code == 404
    return re.sub(r'"X-CSRFToken": "\w+"|name="csrfmiddlewaretoken" value="\w+"', "", answer.content.decode()).replace(
        digest, ""
    )


@pytest.mark.parametrize("kind", ["text", "collection"])
def test_what_is_private_and_what_is_not_there_are_one_answer(kind: str, world: World) -> None:
    snapshot = private(kind, world, world.user)
    eve = signed_in(make_user("eve"))
    for address in ("/api/v1/snapshots/{}", "/api/v1/snapshots/{}/export", "/snapshots/{}/evidence.zip"):
        there, nowhere = (said(eve, address.format(digest), digest) for digest in (snapshot.digest, "0" * 64))
        assert there == nowhere


def test_a_link_to_what_is_private_opens_it_to_whoever_was_given_it(world: World) -> None:
    snapshot = private("text", world, world.user)
    _, token = links.issue(snapshot, world.user)
    assert TEXT in visitor().get(f"/s/{token}").content.decode()
    assert asked(signed_in(make_user("eve")), snapshot) == {404}, "the link, and not the digest that it shows"


def test_viewers_read_what_is_open_and_share_nothing(world: World) -> None:
    snapshot = frozen_feature(world)
    vera = signed_in(make_user("vera", role=Role.VIEWER))
    assert vera.get(snapshot.get_absolute_url()).status_code == 200
    assert vera.get(f"/api/v1/snapshots/{snapshot.digest}").status_code == 200
    assert vera.post(f"{snapshot.get_absolute_url()}links/").status_code == 403
    assert vera.get("/links/").status_code == 403
    assert not ShareLink.objects.exists()


def test_nobody_freezes_what_they_do_not_see(world: World) -> None:
    trial = tried(world, world.user)
    held = collecting.create(world.user, "Secret rain")
    eve = signed_in(make_user("eve"))
    for form in ({"kind": "text", "trial": trial.pk}, {"kind": "collection", "collection": held.slug}):
        assert eve.post("/snapshots/freeze/", form).status_code == 404
        assert eve.post("/api/v1/snapshots", form, content_type="application/json").status_code == 404
    assert not Snapshot.objects.exists()


def test_a_collection_that_is_shared_later_is_open_when_it_is_frozen_again(world: World) -> None:
    snapshot = private("collection", world, world.user)
    eve = signed_in(make_user("eve"))
    assert eve.get(snapshot.get_absolute_url()).status_code == 404
    slug = Freezing.objects.get().subject.removeprefix("collection ")
    held = collecting.find_collection(slug, world.user)
    collecting.edit(held, world.user, name=held.name, description="", shared=True)
    assert eve.get(snapshot.get_absolute_url()).status_code == 404, "what was frozen stays as it was"
    assert freezing.freeze("collection", {"collection": slug}, world.user) == snapshot
    assert eve.get(snapshot.get_absolute_url()).status_code == 200


def test_the_chain_of_what_is_private_names_nobody_elses(world: World) -> None:
    """The same text, tried by two: neither learns of the other by what took the place of what."""
    first = private("text", world, world.user)
    eve = make_user("eve")
    other = tried(world, eve)
    Trial.objects.filter(pk=other.pk).update(result=np.array([0, 2.5], "<f4").tobytes())
    second = freezing.freeze("text", {"trial": other.pk}, eve)
    assert first != second
    assert not Freezing.objects.exclude(supersedes=None).exists()
    assert first.digest not in signed_in(eve).get(second.get_absolute_url()).content.decode()
    third = tried(world, eve)
    Trial.objects.filter(pk=third.pk).update(result=np.array([0, 3.5], "<f4").tobytes())
    freezing.freeze("text", {"trial": third.pk}, eve)
    assert Freezing.objects.order_by("pk").last().supersedes == second  # type: ignore[union-attr]


def test_somebody_who_left_sees_nothing(world: World) -> None:
    snapshot = frozen_feature(world)
    client = signed_in(world.user)
    User.objects.filter(pk=world.user.pk).update(is_active=False)
    assert asked(client, snapshot) <= {302, 401}
    assert client.get("/links/").status_code == 302
