"""Import features that were made elsewhere."""

import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from jobs import imports
from jobs.management.commands.extract import ensure_tables
from jobs.models import Import

SHOWN = 20


class Command(BaseCommand):
    help = "Import an export of Neuronpedia's, batches of SAEDashboard's, or what export_neuronpedia wrote."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("path", type=Path, help="a folder, a file or a .zip")
        parser.add_argument("--name", default="", help="what the SAE is to be called, if it is new")

    def handle(self, *args: Any, **options: Any) -> None:
        from jobs.work.importing import read

        ensure_tables()
        path: Path = options["path"].absolute()
        if not path.exists():
            raise CommandError(f"There is nothing at {path}.")
        row = imports.add_path(path, options["name"], None, ask=False)
        read(row.pk, _Progress(self.stderr).show)
        row.refresh_from_db()
        self.report(row)

    def report(self, row: Import) -> None:
        for fault in row.faults[:SHOWN]:
            where = f"{fault['file']}:{fault['line']}" if fault["line"] else fault["file"]
            self.stderr.write(f"{where}: {fault['why']}")
        if row.n_refused > SHOWN:
            self.stderr.write(f"and {row.n_refused - SHOWN:,} more")
        if row.state != Import.State.DONE:
            raise CommandError(row.error or f"Import {row.pk} is {row.state}: another worker is at it.")
        self.stdout.write(
            f"{row.n_read:,} records read, {row.n_refused:,} refused. "
            f"Features and labels: {row.n_new:,} new, {row.n_changed:,} changed, {row.n_same:,} the same."
        )
        if row.run is not None:
            self.stdout.write(f"Run {row.run.pk} of {row.run.sae.slug}: /runs/{row.run.pk}/")


class _Progress:
    """A line a second on a terminal, one for each file elsewhere."""

    def __init__(self, out: Any) -> None:
        self.out, self.last, self.file = out, 0.0, ""

    def show(self, where: dict[str, Any]) -> None:
        file = where.get("file", where["stage"])
        if file == self.file and (not sys.stderr.isatty() or time.monotonic() - self.last < 1):
            return
        self.last, self.file = time.monotonic(), file
        of = f" ({where['number']} of {where['n_files']})" if "number" in where else ""
        line = f", line {where['line']:,}" if where.get("line") else ""
        self.out.write(f"{where['stage']} {where.get('file', '')}{of}{line}".strip())
