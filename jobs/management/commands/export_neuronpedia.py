"""Write a run in Neuronpedia's layout."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from features.models import Run
from jobs.transfer.out import BATCH, files


class Command(BaseCommand):
    help = "Write the features, activations and explanations of a run as Neuronpedia's data sets have them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--run", type=int, required=True, help="the run's number")
        parser.add_argument("--out", type=Path, required=True, help="a folder, which is made if it is not there")
        parser.add_argument("--batch", type=int, default=BATCH, help=f"features in one file (default: {BATCH})")

    def handle(self, *args: Any, **options: Any) -> None:
        run = Run.objects.select_related("sae__model", "corpus").filter(pk=options["run"]).first()
        if run is None:
            raise CommandError(f"There is no run {options['run']}.")
        if options["batch"] < 1:
            raise CommandError(f"--batch must be at least 1, not {options['batch']}.")
        n_files, n_bytes = 0, 0
        try:
            for name, blocks in files(run, options["batch"]):
                n_bytes += _write(options["out"] / name, blocks)
                n_files += 1
        except OSError as error:
            raise CommandError(f"{error.filename or options['out']}: {error.strerror or error}") from error
        self.stdout.write(f"Run {run.pk} is in {options['out']}: {n_files} files, {n_bytes:,} bytes.")


def _write(path: Path, blocks: Any) -> int:
    """Whole at once: a file that was begun and not ended has another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        for block in blocks:
            file.write(block)
        size = file.tell()
    part.replace(path)
    return size
