"""Real workers that share a job, are killed at it, and lose their Redis: the rows are those of a quiet run."""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from tests.engine import tiny
from tests.jobs.cluster import Cluster

pytestmark = pytest.mark.slow
KILLS = 20


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return tiny.write_corpus(tmp_path / "corpus.jsonl", n=1500)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with Cluster(tmp_path / "cluster") as cluster:
        yield cluster


@dataclass
class Bucket:
    """``environment``: of workers that keep their files in it."""

    environment: dict[str, str]
    client: Any

    def wait_until_empty(self) -> None:
        deadline = time.monotonic() + 30
        while self.n_files() and time.monotonic() < deadline:
            time.sleep(0.2)
        assert self.n_files() == 0

    def n_files(self) -> int:
        """Of jobs; the SAE's vectors stay."""
        found = self.client.list_objects_v2(Bucket="featurescope").get("Contents", [])
        return sum("vectors/" not in file["Key"] for file in found)


@pytest.fixture
def bucket() -> Iterator[Bucket]:
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "tests", "AWS_SECRET_ACCESS_KEY": "tests", "AWS_DEFAULT_REGION": "us-east-1"}
    client = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1",
        aws_access_key_id="tests", aws_secret_access_key="tests",
    )  # fmt: skip
    client.create_bucket(Bucket="featurescope")
    places = {"S3_BUCKET": "featurescope", "S3_ENDPOINT": f"http://{host}:{port}", "S3_PREFIX": "lab"}
    yield Bucket(keys | places, client)
    server.stop()


def quiet_rows(cluster: Cluster, folder: Path, corpus: Path) -> dict:
    """Of a run that nothing disturbs, in one shard."""
    job = cluster.extract(folder, corpus, "--shards", "1")
    cluster.wait(job)
    return cluster.rows(job)


def test_workers_that_are_killed_twenty_times_leave_the_rows_of_a_quiet_run(
    cluster: Cluster, tiny_folder: Path, tmp_path: Path
):
    corpus = tiny.write_corpus(tmp_path / "long.jsonl", n=3000)
    worker = cluster.start_worker()
    expected = quiet_rows(cluster, tiny_folder, corpus)
    job = cluster.extract(tiny_folder, corpus, "--shards", "100")
    rng = random.Random(0)
    seen = None
    for _ in range(KILLS):
        seen = wait_for_another_step(cluster, job, seen)
        time.sleep(rng.uniform(0, 0.5))
        child = cluster.child_of(worker)
        if rng.random() < 0.5 and child is not None:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)  # celery's parent starts another one
        else:
            worker.kill()
            worker.wait()
            worker = cluster.start_worker()
    assert cluster.state(job) == "running", "it was done before it was disturbed enough"
    cluster.wait(job)
    assert cluster.rows(job) == expected
    assert cluster.query("SELECT count(*) FROM jobs_shard") == [(0,)]
    wait_until_clean(cluster)


def wait_for_another_step(cluster: Cluster, job: int, seen: object) -> object:
    """Until a worker has taken or done something since."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        steps = "SELECT phase, attempts, lost, (SELECT total(attempts) FROM jobs_shard) FROM jobs_job WHERE id = ?"
        now = cluster.query(steps, job)
        if now != seen:
            return now
        time.sleep(0.02)
    raise AssertionError(f"nothing has happened since {seen}")


def wait_until_clean(cluster: Cluster, *folders: Path) -> None:
    """What a killed worker left is swept up by the next one."""
    deadline = time.monotonic() + 30
    while cluster.left_behind(*folders) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert cluster.left_behind(*folders) == []


@pytest.mark.parametrize("killed", [True, False])
def test_a_redis_that_stops_and_forgets_delays_a_job_and_no_more(
    cluster: Cluster, tiny_folder: Path, corpus: Path, killed: bool
):
    first = cluster.start_worker()
    expected = quiet_rows(cluster, tiny_folder, corpus)
    job = cluster.extract(tiny_folder, corpus, "--shards", "20")
    while not cluster.query("SELECT 1 FROM jobs_shard WHERE state = 'done'"):
        time.sleep(0.05)
    cluster.stop_redis()
    if killed:
        first.kill()  # and with it whoever knew of the job
        cluster.start_worker()
    time.sleep(4)
    cluster.start_redis()
    cluster.wait(job)
    assert cluster.rows(job) == expected


def test_a_worker_that_is_asked_to_end_lets_go_at_once(cluster: Cluster, tiny_folder: Path, corpus: Path):
    worker = cluster.start_worker()
    job = cluster.extract(tiny_folder, corpus, "--shards", "2")
    while not cluster.query("SELECT 1 FROM jobs_shard WHERE state = 'running' AND done > 0"):
        time.sleep(0.02)
    worker.terminate()
    worker.wait(20)
    states = cluster.query("SELECT state, worker, lost, failures FROM jobs_shard WHERE state != 'done'")
    assert states and set(states) == {("waiting", "", 0, 0)}
    assert cluster.state(job) == "running"


def test_workers_with_separate_folders_share_a_job_through_a_bucket(
    tmp_path: Path, bucket: Bucket, tiny_folder: Path, corpus: Path
):
    with Cluster(tmp_path / "cluster", **bucket.environment) as cluster:
        folders = [tmp_path / "here", tmp_path / "there"]
        for folder in folders:
            cluster.start_worker(folder)
        job = cluster.extract(tiny_folder, corpus, "--shards", "12")
        cluster.wait(job)
        (work,) = cluster.query("SELECT work FROM features_run")[0]
        workers = {part["worker"] for part in json.loads(work)}
        assert len(workers) == 2
        wait_until_clean(cluster, *folders)
        assert cluster.rows(job) == quiet_rows(cluster, tiny_folder, corpus)
        bucket.wait_until_empty()
