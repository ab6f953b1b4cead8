"""/jobs/new/: the form, its faults, and what happens when it is sent."""

from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from redis import Redis

from jobs.models import Job
from tests import factories
from tests.jobs.conftest import MakeJob

URL = "/jobs/new/"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def filled(db: None, var: Path) -> dict[str, str]:
    """What a person sends who changed nothing but the tokens."""
    sae = factories.make_sae(factories.make_model())
    places = {"model": "tiny-lm", "sae": sae.slug, "corpus": factories.make_corpus().slug}
    return places | {"tokens": "5000", "context": "128", "top": "24", "seed": "0", "device": "auto"}


def test_a_stranger_must_sign_in(db: None, anonymous: Client) -> None:
    for response in (anonymous.get(URL), anonymous.post(URL, {})):
        assert response.status_code == 302
        assert response.headers["Location"].startswith(reverse("login"))


def test_an_empty_site_says_what_is_missing(var: Path, as_owner: Client) -> None:
    page = as_owner.get(URL).content.decode()
    assert "Not installed:" in page
    assert "make demo" in page


def test_only_staff_are_offered_paths(filled: dict[str, str], as_member: Client, as_staff: Client) -> None:
    assert 'name="sae_path"' not in as_member.get(URL).content.decode()
    assert 'name="sae_path"' in as_staff.get(URL).content.decode()


@pytest.mark.django_db(transaction=True)
def test_sending_the_form_queues_a_job(filled: dict[str, str], broker: Redis, as_member: Client) -> None:
    response = as_member.post(URL, filled)
    job = Job.objects.get()
    assert response.headers["Location"] == job.get_absolute_url()
    assert (job.owner.get_username() if job.owner else "") == "member"
    assert (job.state, job.settings["sae"], job.settings["tokens"]) == (Job.State.QUEUED, filled["sae"], 5000)
    assert broker.llen("extract") == 1


@pytest.mark.django_db(transaction=True)
def test_without_a_queue_the_job_is_kept_and_the_page_says_so(
    filled: dict[str, str], no_broker: None, as_member: Client
) -> None:
    response = as_member.post(URL, filled, follow=True)
    assert response.status_code == 200
    assert "the queue (Redis) cannot be reached" in response.content.decode()
    assert [job.state for job in Job.objects.all()] == [Job.State.QUEUED]


def test_nothing_that_was_typed_is_lost(filled: dict[str, str], as_staff: Client) -> None:
    typed = filled | {"context": "1", "tokens": "4321", "sae_path": "/no/such/<b>sae</b>", "hook": "resid_mid"}
    response = as_staff.post(URL, typed)
    page = response.content.decode()
    assert response.status_code == 422
    assert not Job.objects.exists()
    assert all(f'value="{value}"' in page for value in ("1", "4321", "resid_mid"))
    assert f'value="{filled["corpus"]}" selected' in page
    assert "/no/such/&lt;b&gt;sae&lt;/b&gt;" in page
    assert "<b>sae</b>" not in page
    assert "Context: give a whole number from 2 to 8,192." in page


def test_a_path_from_a_member_is_refused(filled: dict[str, str], as_member: Client) -> None:
    response = as_member.post(URL, filled | {"corpus_path": "/etc/passwd"})
    assert "only an administrator may give a path" in response.content.decode()
    assert not Job.objects.exists()


def test_a_job_like_another(filled: dict[str, str], as_staff: Client, as_member: Client, make_job: MakeJob) -> None:
    asked = {"model": filled["model"], "sae": "/srv/sae", "corpus": filled["corpus"], "context": 77}
    address = f"{URL}?like={make_job(asked=asked).pk}"
    page = as_staff.get(address).content.decode()
    assert 'value="77"' in page
    assert 'value="/srv/sae"' in page
    assert "/srv/sae" not in as_member.get(address).content.decode()


@pytest.mark.parametrize("query", ["like=x", "like=999", "sae=%00", "model=nobody"])
def test_a_strange_address_is_no_fault(filled: dict[str, str], as_staff: Client, query: str) -> None:
    assert as_staff.get(f"{URL}?{query}").status_code == 200


def test_the_estimate_follows_the_form(filled: dict[str, str], as_member: Client) -> None:
    from features.models import SAE, Corpus

    assert "after the first run" in as_member.get(URL, headers=HTMX).content.decode()
    run = factories.make_run(SAE.objects.get(), Corpus.objects.get(), n_tokens=2000, seconds=1.0)
    text = as_member.get(URL, {"tokens": "360000"}, headers=HTMX).content.decode()
    assert "About 3 min for 360,000 tokens" in text
    assert f'href="{run.get_absolute_url()}">run {run.pk}</a>' in text
    assert "<html" not in text
    assert "of memory" not in text  # no model is chosen
    sae, model = SAE.objects.get(), SAE.objects.get().model
    text = as_member.get(URL, {"sae": sae.slug, "model": model.slug}, headers=HTMX).content.decode()
    assert "On a CPU the worker needs about" in text


@pytest.mark.parametrize("path", ["/etc/passwd", "/no/such.txt"])
def test_the_estimate_tells_a_member_nothing_of_files(filled: dict[str, str], as_member: Client, path: str) -> None:
    for name in ("corpus", "corpus_path"):
        text = as_member.get(URL, {name: path}, headers=HTMX).content.decode()
        assert "after the first run" in text


def test_the_number_of_queries_does_not_grow(
    filled: dict[str, str], as_member: Client, django_assert_num_queries: Any
) -> None:
    with django_assert_num_queries(7):  # session, user, models, SAEs, those that were added, corpora, newest run
        as_member.get(URL)
    for number in range(5):
        factories.make_sae(factories.make_model(f"m{number}"), f"s{number}")
        factories.make_corpus(f"c{number}")
    with django_assert_num_queries(7):
        as_member.get(URL)
