"""The rows that workers write of themselves, and /workers/."""

import os
import socket
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from redis import Redis

from jobs import machine, presence, queues, sweep
from jobs.models import Job, Worker
from tests.jobs.conftest import MakeJob
from tests.jobs.test_models import long_ago

pytestmark = pytest.mark.django_db
HOSTILE = "<script>alert(1)</script>"


def row(name: str = "gpu0@node", **values: Any) -> Worker:
    now = timezone.now()
    facts = {"host": "node", "pid": 812, "queues": ["default", "extract"], "started_at": now, "heartbeat_at": now}
    return Worker.objects.create(name=name, **facts | values)


def get(client: Client, **headers: str) -> str:
    response = client.get(reverse("workers"), headers=headers)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def test_a_worker_registers_beats_and_leaves() -> None:
    me = presence.register("celery@node", ["interactive", "extract"])
    assert (me.host, me.pid, me.queues) == (socket.gethostname(), os.getpid(), ["extract", "interactive"])
    Worker.objects.update(heartbeat_at=long_ago(), memory=0)
    assert presence.beat(me.name)
    me = Worker.objects.alive().get()
    assert me.memory and me.memory_total and me.memory < me.memory_total
    presence.leave()
    assert not presence.beat(me.name) and not Worker.objects.exists()


def test_two_of_one_name_have_a_row_each_and_a_dead_one_is_replaced() -> None:
    other = row("celery@node", pid=1)
    assert presence.register("celery@node", ["extract"]).name == f"celery@node #{os.getpid()}"
    presence.leave()
    Worker.objects.update(heartbeat_at=long_ago())
    assert presence.register("celery@node", ["extract"]).pk == other.pk


def test_what_was_killed_on_this_host_is_forgotten_at_the_next_start() -> None:
    row("killed", host=socket.gethostname(), pid=2**22 + 1)
    row("alive", host=socket.gethostname(), pid=os.getppid())
    row("elsewhere", pid=2**22 + 1)
    presence.register("new", ["extract"])
    assert {worker.name for worker in Worker.objects.all()} == {"alive", "elsewhere", "new"}


def test_the_child_says_what_it_is_at(make_job: MakeJob) -> None:
    job = make_job(Job.State.RUNNING)
    presence.register("celery@node", ["extract"])
    with presence.doing(f"job {job.pk}", job.pk):
        busy = Worker.objects.get()
        assert (busy.doing, busy.job, busy.child) == (f"job {job.pk}", job, os.getpid())
    idle = Worker.objects.get()
    assert (idle.doing, idle.job, idle.child) == ("", None, None)


def test_a_child_that_died_is_at_nothing(make_job: MakeJob) -> None:
    me = presence.register("celery@node", ["extract"])
    Worker.objects.update(doing="job 7", child=2**22 + 1, job=make_job(), warm=["an SAE"])
    presence.beat(me.name)
    me.refresh_from_db()
    assert (me.doing, me.job, me.child, me.warm) == ("", None, None, [])


def test_a_beat_outlives_an_outage(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    tried, twice, ended = [], threading.Event(), threading.Event()

    def fails(*_: object) -> None:
        tried.append(1)
        if len(tried) > 1:
            twice.set()
        raise ConnectionError("the database is away")

    monkeypatch.setattr(presence, "register", fails)
    monkeypatch.setattr(os, "register_at_fork", lambda **_: None)  # it would stay for all other tests
    settings.LEASE_SECONDS = 0.01
    thread = presence.start("celery@node", [], ended)
    assert twice.wait(10)
    ended.set()
    thread.join(10)
    assert not thread.is_alive()


def test_the_memory_of_a_process_is_that_of_its_children_too() -> None:
    reads, writes = os.pipe()
    child = os.fork()
    if not child:  # only waits to be measured
        os.close(writes)
        os.read(reads, 1)
        os._exit(0)
    try:
        assert child in machine.children_of(os.getpid())
        alone = machine._held(os.getpid())
        both = machine.memory_of(os.getpid())
        assert alone and both and both > alone
    finally:
        os.close(writes)
        os.waitpid(child, 0)
    assert machine.memory_of(2**22 + 1) is None


def test_a_stranger_must_sign_in(anonymous: Client) -> None:
    response = anonymous.get(reverse("workers"))
    assert response.status_code == 302 and response.headers["Location"].startswith(reverse("login"))


def test_without_workers_it_says_how_to_start_one(as_member: Client, broker: Redis) -> None:
    page = get(as_member)
    assert "No worker is running" in page and "make worker QUEUES=interactive" in page
    assert "None" not in page


def test_what_a_worker_is_at(as_member: Client, broker: Redis, make_job: MakeJob) -> None:
    job = make_job(Job.State.RUNNING, done=25, total=100, stage="extracting")
    row(doing=f"job {job.pk}", job=job, memory=3 << 30, memory_total=24 << 30, device="cuda (H100)",
        gpu_memory=6 << 30, gpu_memory_total=80 << 30)  # fmt: skip
    row("idle@node", queues=["interactive"], warm=["tiny · L6"])
    page = get(as_member)
    for words in ("busy", f'href="{job.get_absolute_url()}"', "extracting, 25 %", "3.0 GB", "H100"):
        assert words in page
    for words in ('value="3221225472"', "80.0 GB", "idle", "Warm: tiny · L6", "default, extract"):
        assert words in page
    assert "No worker is running" not in page and 'hx-trigger="every 5s"' in page


def test_what_waits_in_each_queue(as_member: Client, broker: Redis) -> None:
    row()
    broker.lpush("interactive", b"x", b"y")
    page = get(as_member)
    assert 'interactive <span class="quiet">texts that somebody tries</span></th> <td class="num">2</td>' in page
    assert page.count('<span class="none">none</span>') == 1  # nobody takes those two
    assert queues.lengths() == {"default": 0, "extract": 0, "interactive": 2}


def test_a_redis_that_is_down_is_said(as_member: Client, no_broker: None) -> None:
    page = get(as_member)
    assert "Redis does not answer" in page and '<td class="num">\N{EN DASH}</td>' in page


def test_lost_workers_are_shown_for_a_while(as_member: Client, broker: Redis) -> None:
    row(heartbeat_at=long_ago(), doing="job 7")
    page = get(as_member)
    assert ">lost</span>" in page and "No worker is running" in page
    Worker.objects.update(heartbeat_at=timezone.now() - timedelta(hours=2))
    sweep.sweep()
    assert not Worker.objects.exists()


def test_a_worker_of_another_version_is_marked(
    as_member: Client, broker: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.workers.code_version", lambda: {"commit": "b" * 40})
    row(version="b" * 40)
    assert "restart it" not in get(as_member)
    row("old@node", version="a" * 40)
    assert get(as_member).count("not this server's: restart it") == 1


def test_the_fragment_alone_and_nothing_runs_in_it(as_member: Client, broker: Redis) -> None:
    row(HOSTILE, host=HOSTILE, doing=HOSTILE, device=HOSTILE, warm=[HOSTILE], queues=[HOSTILE])
    page = get(as_member, **{"HX-Request": "true"})
    assert page.startswith('<div id="workers"') and HOSTILE not in page and "&lt;script&gt;" in page


def test_the_number_of_queries_is_small(
    as_member: Client, broker: Redis, owner: User, make_job: MakeJob, django_assert_num_queries: Any
) -> None:
    for number in range(3):
        row(f"w{number}", job=make_job(), doing="job")
    with django_assert_num_queries(3):  # session, user, workers with their jobs
        get(as_member)
