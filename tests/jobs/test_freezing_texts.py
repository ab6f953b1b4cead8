"""A text that was tried, frozen: what came of it stays when the text is long deleted."""

import numpy as np
import pytest
from django.test import Client

from features.evidence import NotFound
from features.knowledge.rules import Refused
from features.models import Member, Role
from features.sharing import freezing, rendering, shapes
from features.store.contexts import pack_tokens
from jobs.models import Trial
from tests.factories import World, encode, make_user

TEXT = "the river is cold 語 <script>alert(1)</script>"


@pytest.fixture
def trial(world: World) -> Trial:
    ids = encode(TEXT)
    values = np.zeros(len(ids), np.float32)
    values[[2, 5]] = [1.25, 0.1]
    said = {"model": "m", "dtype": "float32", "run": world.run.pk, "n_tokens": len(ids), "sinks": [0], "near": None}
    return Trial.objects.create(
        sae=world.sae, index=9, text=TEXT, owner=world.user, state=Trial.State.DONE, seconds=0.5, device="cpu",
        token_ids=pack_tokens(np.asarray(ids)), result=values.tobytes(), provenance=said | {"loading": 3.2},
    )  # fmt: skip


def test_a_text_keeps_every_token_and_value(world: World, trial: Trial):
    snapshot = freezing.freeze("text", {"trial": trial.pk}, world.user)
    trial.delete()
    frozen = freezing.read(snapshot)
    content = frozen.content
    assert isinstance(content, shapes.Text)
    assert content.text == TEXT
    assert content.token_ids == encode(TEXT)
    assert [value for value in content.values if value] == [1.25, 0.1]
    assert frozen.sources[0].run is not None
    html = rendering.evidence_html(frozen)
    assert "語" in html
    assert "<script" not in html
    assert html.count("<tr>") >= len(content.token_ids)


def test_the_same_text_twice_is_the_same_evidence(world: World, trial: Trial):
    first = freezing.freeze("text", {"trial": trial.pk}, world.user)
    trial.pk, trial.provenance = None, trial.provenance | {"loading": 0.0}
    trial.save()
    assert freezing.freeze("text", {"trial": trial.pk}, world.user) == first


def test_a_text_is_for_whoever_tried_it_and_for_reviewers(world: World, trial: Trial):
    with pytest.raises(NotFound):
        freezing.freeze("text", {"trial": trial.pk}, make_user("grace"))
    snapshot = freezing.freeze("text", {"trial": trial.pk}, world.user)
    for name, role, status in (("ruth", Role.RESEARCHER, 404), ("rita", Role.REVIEWER, 200)):
        user = make_user(name)
        Member.objects.create(user=user, role=role)
        client = Client()
        client.force_login(user)
        assert client.get(snapshot.get_absolute_url()).status_code == status


def test_a_text_without_an_answer_is_not_frozen(world: World, trial: Trial):
    Trial.objects.update(state=Trial.State.WAITING)
    with pytest.raises(Refused, match="no answer yet"):
        freezing.freeze("text", {"trial": trial.pk}, world.user)


def test_the_page_of_an_answer_offers_to_freeze_it(client_in: Client, trial: Trial):
    page = client_in.get(trial.get_absolute_url()).content.decode()
    assert f'name="trial" value="{trial.pk}"' in page
