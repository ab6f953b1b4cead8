"""Wherever a run that is not valid is shown, it says so, with every reason."""

import pytest
from django.test import Client

from features.models import Run
from jobs.models import Job
from tests.factories import World

REASONS = ["Explained variance 0.210 is below 0.5.", "L0 901.0 is far from the SAE's own k = <i>8</i>."]
SHOWN = [REASONS[0], "L0 901.0 is far from the SAE&#x27;s own k = &lt;i&gt;8&lt;/i&gt;."]
MARK = "NOT VALID FOR THIS MODEL"
PAGES = [
    "/",
    "/saes/tiny-lm-l6/",
    "/saes/tiny-lm-l6/features/",
    "/saes/tiny-lm-l6/features/5/",
    "/saes/tiny-lm-l6/features/5/contexts/{context}/",
    "/runs/{run}/",
    "/jobs/",
    "/jobs/{job}/",
]


@pytest.fixture
def job(world: World) -> Job:
    made: Job = Job.objects.create(settings={"sae": "s", "model": "m", "corpus": "c"}, run=world.run, state="done")
    return made


def address(page: str, world: World, job: Job, client: Client) -> str:
    (example, *_) = client.get("/api/v1/saes/tiny-lm-l6/features/5").json()["examples"]
    return page.format(run=world.run.pk, job=job.pk, context=example["context_id"])


@pytest.mark.parametrize("page", PAGES)
def test_every_page_marks_it(page: str, world: World, job: Job, client_in: Client) -> None:
    where = address(page, world, job, client_in)
    assert MARK not in client_in.get(where).content.decode()
    Run.objects.update(valid=False, why_not_valid="\n".join(REASONS))
    answer = client_in.get(where)
    assert answer.status_code == 200
    shown = answer.content.decode()
    assert MARK in shown
    assert all(reason in shown for reason in SHOWN)


def test_a_job_that_ends_while_somebody_looks_brings_the_mark(world: World, job: Job, client_in: Client) -> None:
    Run.objects.update(valid=False, why_not_valid="\n".join(REASONS))
    assert MARK in client_in.get(f"/jobs/{job.pk}/progress/?seen=running").content.decode()


def test_the_api_says_so(world: World, client_in: Client) -> None:
    Run.objects.update(valid=False, why_not_valid="\n".join(REASONS))
    run = client_in.get("/api/v1/saes/tiny-lm-l6").json()["run"]
    feature = client_in.get("/api/v1/saes/tiny-lm-l6/features/5").json()
    for said in (run, feature):
        assert said["valid"] is False
        assert said["why_not_valid"].splitlines() == REASONS
