"""Run an extraction: here, or in the queue."""

import json
import time
from argparse import ArgumentParser
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from jobs.bar import Bar, follow
from jobs.models import Job
from jobs.requests import DTYPES, ExtractionRequest
from jobs.services import create_extraction, queue_extraction
from jobs.sources import absolute


class Command(BaseCommand):
    help = "Run an SAE over a corpus and keep what every feature did. Queued, unless --local."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", required=True, help="slug, folder, .gguf file, package:NAME or hub id")
        parser.add_argument("--sae", required=True, help="slug, folder, file, hub id or checkpoint:ID")
        parser.add_argument("--corpus", required=True, help="slug, or a .jsonl, .jsonl.gz, .txt or .parquet file")
        parser.add_argument("--tokens", type=int, help="stop after the window that reaches so many (default: all)")
        parser.add_argument("--context", type=int, default=128, help="tokens in a window (default: 128)")
        parser.add_argument("--top", type=int, default=24, help="top examples of each feature (default: 24)")
        parser.add_argument("--seed", type=int, default=0)
        parser.add_argument(
            "--skip-first", type=int, default=0, help="positions of each window to leave out (default: 0)"
        )
        add_reading_arguments(parser)
        parser.add_argument("--shards", type=int, help="pieces that workers share (default: by the corpus's length)")
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--local", action="store_true", help="run in this process, without a queue")
        where.add_argument("--wait", action="store_true", help="queue it, and follow it to its end")
        parser.add_argument("--json", action="store_true", help="print the outcome as JSON on the last line")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_tables()
        asked = {name: options[name] for name in ExtractionRequest.__dataclass_fields__}
        try:
            request = ExtractionRequest(**asked | {name: absolute(asked[name]) for name in ("model", "sae", "corpus")})
        except ValueError as error:
            raise CommandError(str(error)) from error
        if request.tokens is not None and request.tokens < 1:
            raise CommandError(f"--tokens must be at least 1, not {request.tokens}.")
        if options["local"]:
            job = create_extraction(request, owner=None)
            self.run_here(job)
        else:
            job = self.queue(request)
            if not options["wait"]:
                self.report({"job": job.pk}, f"Queued as job {job.pk}.", options["json"])
                return
            follow(job)
        job.refresh_from_db()
        if job.state != Job.State.DONE:
            raise CommandError(job.error or f"Job {job.pk} is {job.state}, and nobody works on it: see its page.")
        self.report(*outcome(job), options["json"])

    def queue(self, request: ExtractionRequest) -> Job:
        from kombu.exceptions import OperationalError

        try:
            return queue_extraction(request, owner=None)
        except OperationalError as error:
            raise CommandError(
                f"The queue cannot be reached ({error}): start Redis and a worker (`make demo` does), or use --local."
            ) from error

    def run_here(self, job: Job) -> None:
        """Everything in this process, unless workers join in: then their part is waited for."""
        from jobs.presence import own_name
        from jobs.work.loop import work

        with Bar() as bar:
            while True:
                work(job.pk, own_name(), bar.show)
                job.refresh_from_db()
                if not job.is_live:
                    return
                time.sleep(1)

    def report(self, facts: dict[str, Any], sentence: str, as_json: bool) -> None:
        self.stdout.write(sentence)
        if as_json:
            self.stdout.write(json.dumps(facts))


def add_reading_arguments(parser: ArgumentParser) -> None:
    """What may be said of an SAE, in place of what its files say, and where the model runs."""
    parser.add_argument("--layer", type=int, help="where the SAE reads, in place of what its files say")
    parser.add_argument("--hook", help="the hook point, in place of what its files say")
    parser.add_argument("--hook-out", help="what a transcoder writes, if its files do not say")
    parser.add_argument("--k", type=int, help="k of a TopK SAE, in place of what its files say")
    parser.add_argument("--centred", action="store_true", default=None, help="take the mean over d_model off first")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: auto)")
    parser.add_argument("--dtype", default="auto", choices=DTYPES, help="of the model (default: auto)")


def ensure_tables() -> None:
    """Make the tables where the database is a file of our own; a server's tables are its operator's to make."""
    plan = MigrationExecutor(connection)
    if not plan.migration_plan(plan.loader.graph.leaf_nodes()):
        return
    if connection.vendor != "sqlite":
        raise CommandError("The database lacks tables or columns: run `python manage.py migrate` first.")
    call_command("migrate", verbosity=0)


def outcome(job: Job) -> tuple[dict[str, Any], str]:
    """The finished job's run as facts and as a sentence."""
    run = job.run
    if run is None:
        raise CommandError(f"Job {job.pk} has no run.")
    facts = {
        "run": run.pk,
        "sae": run.sae.slug,
        "n_features": run.sae.d_sae,
        "n_tokens": run.n_tokens,
        "explained_variance": run.explained_variance,
        "l0": run.l0,
        "valid": run.valid,
    }
    verdict = "" if run.valid else f" NOT VALID FOR THIS MODEL: {' '.join(run.reasons)}"
    sentence = (
        f"Run {run.pk}: {run.n_alive:,} of {run.sae.d_sae:,} features fire on {run.n_tokens:,} tokens at "
        f"{run.tokens_per_second:,.0f} tokens/s; explained variance {run.explained_variance:.3f}, L0 {run.l0:.1f}."
        f"{verdict}"
    )
    return facts, sentence
