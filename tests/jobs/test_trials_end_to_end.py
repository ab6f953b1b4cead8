"""A text from the form to the answer: a real Redis, a real worker, and what the workers' page says of it."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.jobs.cluster import Cluster

pytestmark = pytest.mark.slow

TRY = """
import json, time
from django.contrib.auth.models import User
from django.test import Client
from features.models import SAE
from jobs.models import Trial

client = Client(headers={"Host": "localhost", "HX-Request": "true"})
client.force_login(User.objects.create_user("ada"))
address, pages = f"/saes/{SAE.objects.get().slug}/features/5/try/", []
for text in ("the quick brown fox", "the lazy dog"):
    page = client.post(address, {"text": text}).content.decode()
    trial, until = Trial.objects.first(), time.monotonic() + 60
    while "hx-trigger" in page and time.monotonic() < until:
        time.sleep(0.05)
        page = client.get(trial.get_absolute_url()).content.decode()
    pages.append(page)
program = Client(headers={"Host": "localhost"})
program.force_login(User.objects.get())
asked = {"text": "nine ships sail", "wait": 30}
answer = program.post(f"/api/v1{address[:-5]}/activations", asked, "application/json")
workers = client.get("/workers/").content.decode()
said = {"pages": pages, "status": answer.status_code, "answer": answer.json(), "workers": workers}
print("\\n" + json.dumps(said | {"loading": [t.provenance["loading"] for t in Trial.objects.order_by("pk")]}))
"""


ROW = "SELECT queues, memory, doing FROM jobs_worker"


def test_a_text_is_answered_by_a_worker_that_stays_warm_and_says_goodbye(tmp_path: Path, tiny_folder: Path) -> None:
    with Cluster(tmp_path / "cluster") as cluster:
        worker, until = cluster.start_worker(queues="extract,interactive"), time.monotonic() + 60
        while not (rows := cluster.query(ROW)) and time.monotonic() < until:
            time.sleep(0.1)
        queues, memory, doing = rows[0]
        assert (json.loads(queues), doing) == (["extract", "interactive"], "")
        assert 20 << 20 < memory < 400 << 20  # no model library is loaded yet
        cluster.wait(cluster.extract(tiny_folder, tiny_folder / "corpus.jsonl"))
        found: dict[str, Any] = json.loads(cluster.manage("shell", "--verbosity", "0", "-c", TRY).splitlines()[-1])
        assert all('class="passage"' in page for page in found["pages"])
        assert found["loading"][0] > 0 and found["loading"][1:] == [0, 0]
        assert found["status"] == 200 and found["answer"]["state"] == "done"
        assert len(found["answer"]["values"]) == found["answer"]["n_tokens"] == len(found["answer"]["tokens"])
        assert "worker-0@test" in found["workers"] and "Warm: " in found["workers"]
        worker.terminate()
        worker.wait(20)
        assert cluster.query("SELECT count(*) FROM jobs_worker") == [(0,)]
