"""Print the benchmark table: extraction against the least that it can cost, and pages against the database."""

import os
import platform
import resource
import statistics
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator
from typing import Any

from django.contrib.auth.models import User
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from features.models import Activity, Run
from jobs import demo


class Command(BaseCommand):
    help = "Measure on the demo: the engine's rate beside the forward pass and the encoder alone, and every page."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--tokens", type=int, default=32_768, help="tokens per measurement (default: 32768)")
        parser.add_argument("--repeats", type=int, default=3)
        parser.add_argument("--pages-only", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(
            f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}\n"
        )
        if not options["pages_only"]:
            self.engine(options["tokens"], options["repeats"])
        with transaction.atomic():  # the reader who measures is gone afterwards
            self.pages(options["repeats"])
            transaction.set_rollback(True)

    def engine(self, n_tokens: int, repeats: int) -> None:
        """One process, the same tokens for each row; the rows take turns, so that noise falls on all of them."""
        parts = list(_engine_parts(n_tokens))
        seconds: dict[str, list[float]] = {name: [] for name, _ in parts}
        for _ in range(repeats):
            for name, work in parts:
                began = time.perf_counter()
                work()
                seconds[name].append(time.perf_counter() - began)
        least = statistics.median(seconds[parts[1][0]])
        self.stdout.write(f"\n{'engine, ' + format(n_tokens, ',') + ' tokens':44}{'tokens/s':>10}{'of limit':>10}")
        for name, _ in parts:
            median = statistics.median(seconds[name])
            self.stdout.write(f"{name:44}{n_tokens / median:10,.0f}{least / median:10.0%}")
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        self.stdout.write(f"peak memory of the process: {peak:,.0f} MiB")

    def pages(self, repeats: int) -> None:
        run = demo.ready_run() or Run.objects.latest_first().first()
        if run is None:
            raise CommandError("There is no run to show: `make demo` first.")
        client = Client(headers={"host": "localhost"})
        client.force_login(User.objects.create_user("bench"))
        index = Activity.objects.filter(run=run, density__gt=0).order_by("-max_activation")[100].index
        base = f"/saes/{run.sae.slug}/"
        self.stdout.write(f"\n{'page':44}{'ms':>10}{'queries':>10}{'KiB':>10}")
        for name, url in {
            "home": "/",
            "SAE": base,
            "features": f"{base}features/",
            "features, by maximum": f"{base}features/?order=-max",
            "features, search": f"{base}features/?q=water",
            "feature": f"{base}features/{index}/",
            "jobs": "/jobs/",
            "API feature": f"/api/v1{base}features/{index}",
            "API features": f"/api/v1{base}features",
        }.items():
            milliseconds, queries, size = _page(client, url, repeats)
            self.stdout.write(f"{name:44}{milliseconds:10.1f}{queries:10}{size / 1024:10.1f}")


def _engine_parts(n_tokens: int) -> Iterator[tuple[str, Callable[[], object]]]:
    import torch

    from jobs.engine.capture import Capture
    from jobs.engine.corpus import cut_contexts, read_corpus
    from jobs.engine.extraction import ExtractionSettings, extract
    from jobs.engine.model import load_model
    from jobs.engine.saes import load_sae

    model, sae = load_model(demo.MODEL), load_sae(demo.SAE_FOLDER)
    contexts = list(cut_contexts(read_corpus(demo.build_corpus()), model.tokenize, demo.CONTEXT, n_tokens))
    capture = Capture(model, *sae.hook_point())
    capture.calibrate(contexts[:64])
    settings = ExtractionSettings()
    size = settings.contexts_per_batch(sae.d_sae)

    def forward() -> None:
        for _ in capture.batches(contexts, size):
            pass

    def forward_and_encoder() -> None:
        with torch.inference_mode():
            for batch in capture.batches(contexts, size):
                torch.nn.functional.linear(batch.x[batch.mask], sae.W_enc.T, sae.b_enc)

    yield "forward pass to the hooked layer", forward
    yield "forward pass and encoder matmul (the limit)", forward_and_encoder
    yield "extraction", lambda: list(extract(capture, sae, contexts, settings))


def _page(client: Client, url: str, repeats: int) -> tuple[float, int, int]:
    """Median milliseconds, number of queries and bytes of a page, warm."""
    with CaptureQueriesContext(connection) as queries:
        answer = client.get(url)
    n_queries = len(queries)  # the next request empties the log
    if answer.status_code != 200:
        raise CommandError(f"{url} answered {answer.status_code}.")
    times = []
    for _ in range(max(5, repeats)):
        began = time.perf_counter()
        client.get(url)
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times), n_queries, len(answer.content)
