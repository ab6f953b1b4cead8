"""/jobs/: what runs, what waits and what has ended."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from jobs.models import Job
from jobs.views import ENDED_PER_PAGE
from tests import factories
from tests.jobs.conftest import MakeJob

HOSTILE = "<script>alert(1)</script>"
HTMX = {"HX-Request": "true"}


def get(client: Client, **query: Any) -> str:
    response = client.get(reverse("jobs"), query)
    assert response.status_code == 200
    return response.content.decode()


def test_a_stranger_must_sign_in(db: None, anonymous: Client) -> None:
    response = anonymous.get(reverse("jobs"))
    assert response.status_code == 302
    assert response.headers["Location"].startswith(reverse("login"))


def test_an_empty_list_says_what_to_do(as_owner: Client) -> None:
    page = get(as_owner)
    assert "Nothing has been extracted yet" in page
    assert reverse("job_new") in page
    assert "manage.py extract" in page


def test_owner_and_member_see_the_same_jobs(as_owner: Client, as_member: Client, make_job: MakeJob) -> None:
    job = make_job(asked={"model": "package:some_lm", "corpus": "/data/news.jsonl", "tokens": 262144})
    for client in (as_owner, as_member):
        page = get(client)
        assert job.get_absolute_url() in page
        assert all(words in page for words in ("sae-l6", "some_lm", "news.jsonl", "262,144 tokens", "owner"))


def test_running_jobs_show_progress_rate_and_time_left(as_owner: Client, make_job: MakeJob) -> None:
    now = timezone.now()
    progress = {"done": 60_000, "total": 240_000, "rate": 2000.0, "stage": "extracting"}
    make_job(Job.State.RUNNING, started_at=now, heartbeat_at=now, **progress)
    page = get(as_owner)
    assert 'max="240000" value="60000"' in page
    assert all(words in page for words in ("25 %", "2,000 tokens/s", "about 2 min left", "Extracting"))


def test_ended_jobs_show_the_result_or_the_reason(as_owner: Client, make_job: MakeJob, world: factories.World) -> None:
    make_job(Job.State.DONE, run=world.run)
    make_job(Job.State.FAILED, error="a.safetensors is cut off; copy it again.")
    page = get(as_owner)
    assert f'href="{world.sae.get_absolute_url()}?run={world.run.pk}"' in page
    assert "a.safetensors is cut off" in page


@pytest.mark.parametrize(("state", "polls"), [("queued", True), ("running", True), ("done", False), ("failed", False)])
def test_it_polls_only_while_something_is_live(as_owner: Client, make_job: MakeJob, state: str, polls: bool) -> None:
    make_job(state)
    page = get(as_owner)
    assert ("every 2s" in page) is polls
    assert ('http-equiv="refresh"' in page) is polls


def test_htmx_gets_the_fragment_alone(as_owner: Client, make_job: MakeJob) -> None:
    make_job()
    response = as_owner.get(reverse("jobs"), headers=HTMX)
    assert response.content.decode().lstrip().startswith('<div id="job-list"')
    assert "HX-Request" in response.headers["Vary"]


def test_hostile_text_is_escaped(as_owner: Client, make_job: MakeJob) -> None:
    make_job(Job.State.FAILED, error=HOSTILE, asked={"sae": HOSTILE, "model": HOSTILE, "corpus": f'"{HOSTILE}'})
    make_job(Job.State.RUNNING, stage=HOSTILE)
    page = get(as_owner)
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page.lower()


def test_older_jobs_are_a_page_further(as_owner: Client, make_job: MakeJob) -> None:
    jobs = [make_job(Job.State.DONE) for _ in range(ENDED_PER_PAGE + 1)]
    first = get(as_owner)
    older = f"?before={jobs[1].pk}"
    assert older in first
    assert jobs[0].get_absolute_url() not in first
    assert jobs[0].get_absolute_url() in get(as_owner, before=jobs[1].pk)


@pytest.mark.parametrize("before", ["x", "-1", "9" * 40, "²"])
def test_a_strange_address_is_no_fault(as_owner: Client, before: str) -> None:
    get(as_owner, before=before)


def test_the_number_of_queries_does_not_grow(
    as_owner: Client, make_job: MakeJob, world: factories.World, django_assert_num_queries: Any
) -> None:
    def a_few() -> None:
        for state in Job.State:
            make_job(state, run=world.run if state == Job.State.DONE else None)
        make_job(created_at=timezone.now() - timedelta(hours=1))

    a_few()
    with django_assert_num_queries(5):  # session, user, live jobs and who is at them, ended jobs
        get(as_owner)
    a_few()
    a_few()
    with django_assert_num_queries(5):
        get(as_owner)
