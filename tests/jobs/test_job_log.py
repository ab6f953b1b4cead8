"""What a job's workers told, as its page shows it."""

from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from jobs.models import Job
from jobs.models.job import LOG_CHARACTERS, LOG_LINES
from tests.jobs.conftest import MakeJob
from tests.jobs.helpers import done, tiny_job

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>\u202e"


def test_a_run_tells_its_stages_shards_and_end(tiny_folder: Path) -> None:
    job = done(tiny_job(tiny_folder), worker="node:8:a1")
    said = [line.split("  ", 1)[1] for line in job.log_lines]
    assert said[0] == "reading the corpus" and said[-1] == f"done: run {job.run_id}"
    assert sum("is done: " in line for line in said) == 3 and any(line.startswith("planned: ") for line in said)
    assert all(" node:8 " in line for line in job.log_lines)


def test_a_failure_and_another_try_are_told(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr("jobs.work.shard.extract", broken)
    job = done(tiny_job(tiny_folder, shards=1))
    assert job.state == Job.State.FAILED
    Job.objects.requeue(job.pk)
    job.refresh_from_db()
    said = [line.split("  ", 1)[1] for line in job.log_lines]
    assert said.count("shard 0 failed: The worker met an error it does not know: OSError: the disk is gone") == 3
    assert said[-2].startswith("failed: Shard 0 failed 3 times") and said[-1] == "sent again"


def test_the_end_of_a_long_log_is_kept(make_job: MakeJob) -> None:
    job = make_job()
    for number in range(LOG_LINES + 400):
        Job.objects.tell(job.pk, f"line {number} {'x' * 60}")
    job.refresh_from_db()
    assert len(job.log) == LOG_CHARACTERS
    assert len(job.log_lines) <= LOG_LINES and f"line {LOG_LINES + 399} " in job.log_lines[-1]
    assert all(line.endswith("x" * 60) and line[:2] == "20" for line in job.log_lines)


def test_the_page_shows_it_and_the_fragment_brings_the_news(as_member: Client, make_job: MakeJob) -> None:
    job = make_job(Job.State.RUNNING)
    Job.objects.tell(job.pk, f"loading\n{HOSTILE}\0", "node:8:a1")
    page = as_member.get(job.get_absolute_url()).content.decode()
    part = as_member.get(reverse("job_progress", args=[job.pk])).content.decode()
    for shown in (page, part):
        assert " node:8  loading &lt;script&gt;" in shown and HOSTILE not in shown and "⟨U+202E⟩" in shown
    assert '<pre id="job-log">' in page and '<pre id="job-log" hx-swap-oob="innerHTML">' in part


def test_a_map_is_listed_as_one(as_member: Client, make_job: MakeJob) -> None:
    job = make_job(Job.State.DONE, kind=Job.Kind.MAP)
    Job.objects.update(settings={"sae": "tiny-lm-l6"})
    page = as_member.get(reverse("jobs")).content.decode()
    assert '<span class="badge">map</span>' in page and "reading" not in page
    assert "map of" in as_member.get(job.get_absolute_url()).content.decode()
