"""A text through one feature over REST."""

from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from redis import Redis

from features.models import SAE, ApiKey
from jobs.models import Trial
from tests.factories import NAMED, World
from tests.jobs.test_services import sent
from tests.jobs.test_trials import answered

pytestmark = pytest.mark.django_db
PATH = f"/api/v1/saes/tiny-lm-l6/features/{NAMED}/activations"


@pytest.fixture
def mine(world: World, owner: User) -> Trial:
    return Trial.objects.create(sae=world.sae, index=NAMED, text="a river", owner=owner)


def post(client: Client, path: str = PATH, **asked: Any) -> tuple[int, dict[str, Any]]:
    response = client.post(path, {"wait": 0} | asked, "application/json")
    return response.status_code, response.json()


@pytest.mark.django_db(transaction=True)
def test_a_text_is_sent_and_its_answer_has_an_address(world: World, as_owner: Client, broker: Redis) -> None:
    status, said = post(as_owner, text="a river")
    trial = Trial.objects.get()
    assert status == 202 and said["url"] == f"http://testserver/api/v1/trials/{trial.pk}"
    assert (said["id"], said["state"]) == (trial.pk, "waiting")
    assert sent(broker, "interactive") == [("jobs.tasks.try_text", [[trial.pk], {}])]


@pytest.mark.django_db(transaction=True)
def test_without_a_queue_it_is_503(world: World, as_owner: Client, no_broker: None) -> None:
    assert post(as_owner, text="a river")[0] == 503


@pytest.mark.django_db(transaction=True)
def test_a_key_asks_as_its_person(world: World, owner: User, anonymous: Client, broker: Redis) -> None:
    headers = {"X-API-Key": ApiKey.objects.issue(owner, "notebook")[1]}
    response = anonymous.post(PATH, {"text": "a", "wait": 0}, "application/json", headers=headers)
    assert response.status_code == 202 and Trial.objects.get().owner == owner
    assert anonymous.get(f"/api/v1/trials/{Trial.objects.get().pk}", headers=headers).status_code == 202


def test_the_answer(world: World, mine: Trial, as_owner: Client) -> None:
    answered(mine, [0, 1.5, 0.25, 0], run=world.run.pk)
    response = as_owner.get(f"/api/v1/trials/{mine.pk}")
    said = response.json()
    assert response.status_code == 200 and (said["sae"], said["index"], said["text"]) == (
        "tiny-lm-l6",
        NAMED,
        "a river",
    )
    assert said["values"] == [0, 1.5, 0.25, 0] and said["positions"] == [1, 2]
    assert said["tokens"][1:3] == [" river", " cell"] and len(said["token_ids"]) == 4
    assert (said["max_value"], said["max_position"], said["masked"]) == (1.5, 1, [])
    assert said["corpus_maximum"] == pytest.approx(world.run.activities.get(index=NAMED).max_activation)
    assert said["provenance"]["run"] == world.run.pk and said["worker"] == "node:8:a1"
    answered(mine, [0, 0.0])
    assert as_owner.get(f"/api/v1/trials/{mine.pk}").json()["max_position"] is None


def test_a_failure_is_said(mine: Trial, as_owner: Client) -> None:
    Trial.objects.update(state="failed", error="The SAE is gone.")
    response = as_owner.get(f"/api/v1/trials/{mine.pk}")
    assert response.status_code == 422 and response.json() == {"detail": "The SAE is gone."}


def test_it_is_for_its_owner_and_staff(mine: Trial, as_owner: Client, as_member: Client, as_staff: Client) -> None:
    for client, status in ((as_owner, 202), (as_staff, 202), (as_member, 404)):
        assert client.get(f"/api/v1/trials/{mine.pk}").status_code == status


@pytest.mark.parametrize(
    ("asked", "status", "said"),
    [
        ({"text": ""}, 422, "There is no text"),
        ({"text": "a\0"}, 422, "NUL"),
        ({"text": "x" * 4001}, 422, "4,001 characters"),
        ({"text": "a", "wait": 31}, 422, "wait"),
        ({}, 422, "text"),
    ],
)
def test_what_is_no_question(world: World, as_owner: Client, asked: dict[str, Any], status: int, said: str) -> None:
    found, answer = post(as_owner, **asked)
    assert found == status and said in answer["detail"] and not Trial.objects.exists()


def test_what_is_not_there(world: World, as_owner: Client) -> None:
    for path in ("/api/v1/saes/nobody/features/3/activations", PATH.replace(f"/{NAMED}/", "/999/")):
        assert post(as_owner, path, text="a")[0] == 404
    SAE.objects.update(digest="")
    status, said = post(as_owner, text="a")
    assert status == 409 and "its weights are not on this site" in said["detail"]
