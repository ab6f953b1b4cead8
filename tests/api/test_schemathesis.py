"""Every operation of the API, asked what its description allows and much that it forbids, answers as it says.

The operations come from the document itself, so that one which is added is asked as well. An administrator's key asks:
nothing is hidden from it, so the most is run. What an answer wrote is taken back before the next question.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from pytest_django.fixtures import Settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

import jobs.api
from features import vectors
from features.knowledge import collecting, labelling, notes
from features.models import ApiKey, Feature
from features.sharing import freezing, links
from interp_site.api import api
from jobs.models import Trial
from tests import factories
from tests.factories import NAMED, TIED, World
from tests.jobs.test_trials import answered

CHECKS: list[Any] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
# What is asked follows from the document alone; the world of the tests is the same for each question.
FEW, MANY = (
    hypothesis_settings(max_examples=n, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    for n in (10, 150)
)

schema = schemathesis.openapi.from_dict(api.get_openapi_schema())
schema.app = WSGIHandler()
schema.config.generation.update(with_security_parameters=False)


class Asker:
    """Sends a question twice: as it was drawn, and with the names of things that are there."""

    def __init__(self, world: World) -> None:
        user = factories.make_user("root", is_staff=True)
        self.headers = {"X-API-Key": ApiKey.objects.issue(user, "questions")[1], "Accept-Encoding": "identity"}
        feature = Feature.objects.get(sae=world.sae, index=NAMED)
        batch = labelling.give([feature], "months", user)
        notes.tag([feature.pk], ["time"], user)
        comment = notes.comment(feature, "as in winter", user)
        collection = collecting.create(user, "Time words", "", shared=True)
        collecting.add(collection, [feature.pk], user)
        trial = Trial.objects.create(sae=world.sae, index=NAMED, text="a river", owner=user)
        answered(trial, [0, 1.5, 0.25, 0], run=world.run.pk)
        snapshot = freezing.freeze("feature", {"sae": world.sae.slug, "index": NAMED}, user)
        link, _ = links.issue(snapshot, user)
        feature.refresh_from_db()
        self.slugs = {"models": world.model.slug, "saes": world.sae.slug, "collections": collection.slug}
        self.in_path = {
            "sae": world.sae.slug,
            "index": NAMED,
            "label": feature.label_id,
            "comment": comment.pk,
            "name": "time",
            "pk": trial.pk,
            "digest": snapshot.digest,
            "link": link.pk,
        }
        self.in_query = {"run": world.run.pk, "sae": world.sae.slug, "collection": collection.slug, "tag": "time"}
        names = [f"{world.sae.slug}/{index}" for index in (NAMED, TIED)]
        self.in_body = {
            "features": names,
            "batch": str(batch),
            "sae": world.sae.slug,
            "index": NAMED,
            "run": world.run.pk,
            "a": names[0],
            "b": names[1],
            "collection": collection.slug,
            "trial": trial.pk,
        }

    def ask(self, case: Any) -> None:
        self.send(case)
        self.send(self.about_what_is_there(case))

    def about_what_is_there(self, case: Any) -> Any:
        slug = self.slugs.get(case.path.removeprefix("/api/v1/").split("/")[0])
        case.path_parameters = _with(case.path_parameters, self.in_path | ({"slug": slug} if slug else {}))
        case.query = _with(case.query, self.in_query)
        case.body = _with(case.body, self.in_body)
        return case

    def send(self, case: Any) -> int:
        """Its status, after all that an answer has to be."""
        with transaction.atomic():
            answer = case.call_and_validate(headers=self.headers, checks=CHECKS)
            transaction.set_rollback(True)
        return int(answer.status_code)


def _with(drawn: Any, real: dict[str, Any]) -> Any:
    """``drawn`` with real names in the place of those that it has."""
    return {name: real.get(name, value) for name, value in drawn.items()} if isinstance(drawn, dict) else drawn


class Clock:
    """Nobody answers a text that is tried here: time passes at once."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def one_connection() -> Iterator[None]:
    """The site is asked inside the test's transaction, so it must not give its connection back, as it does at ends."""
    ends = (request_started, request_finished)
    for end in ends:
        end.disconnect(close_old_connections)
    yield
    for end in ends:
        end.connect(close_old_connections)


@pytest.fixture
def asker(
    world: World, one_connection: None, monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path
) -> Asker:
    monkeypatch.setattr(jobs.api, "time", Clock())
    monkeypatch.setattr(jobs.api, "LOOK_EVERY", 10)
    local = settings.LOCAL_STORAGE | {"OPTIONS": {"location": tmp_path}}
    settings.STORAGES = settings.STORAGES | {"default": local}
    vectors.keep(vectors.place_of(world.sae), [np.ones((world.sae.d_sae, world.sae.d_out), np.float32)])
    return Asker(world)


@pytest.mark.slow
@schema.parametrize()
@FEW
def test_every_operation_answers_as_its_description_says(case: Any, asker: Asker) -> None:
    asker.ask(case)


@pytest.mark.slow
@schema.parametrize()
@MANY
def test_and_whatever_else_it_is_asked(case: Any, asker: Asker) -> None:
    asker.ask(case)


def test_what_is_there_is_found(asker: Asker) -> None:
    """Else all questions would be about nothing."""
    answers = {}
    for operation in (found.ok() for found in schema.get_all_operations() if isinstance(found, Ok)):
        if operation.method == "get":
            names = [parameter.name for parameter in operation.path_parameters]
            query = {"q": "winter"} if operation.path.endswith("/search") else {}
            case = operation.Case(path_parameters=dict.fromkeys(names, ""), query=query)
            answers[operation.label] = asker.send(asker.about_what_is_there(case))
    assert len(answers) > 10
    assert set(answers.values()) == {200}, answers
