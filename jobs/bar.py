"""A job's progress in the terminal: one bar, with rate and time left, whoever runs the job."""

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from jobs.models import Job


class Bar:
    """Shows a job's stage, and its tokens where the stage counts them."""

    def __enter__(self) -> Self:
        self._bar: tqdm[None] | None = None
        self._stage = ""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def show(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self._close()
            self._stage = stage
            if total:
                self._bar = tqdm(total=total, desc=stage, unit="tok", unit_scale=True, dynamic_ncols=True)
            elif stage:
                print(f"{stage} …", file=sys.stderr)  # noqa: T201 - this is the terminal's own page
        if self._bar is not None:
            self._bar.update(done - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def follow(job: Job, every: float = 0.5) -> None:
    """Show the progress of a job that a worker runs, until it ends. ``job`` is then as the database has it."""
    with Bar() as bar:
        while True:
            job.refresh_from_db()
            tokens = (job.done, job.total) if job.kind == Job.Kind.EXTRACTION else (0, 0)
            bar.show(job.stage or str(job.state), *tokens)
            if not job.is_live or job.is_silent:
                return
            time.sleep(every)
