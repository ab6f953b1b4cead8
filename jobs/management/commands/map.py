"""Draw the map of an SAE's features: here, or in the queue."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from features.models import Layout
from jobs.bar import Bar, follow
from jobs.management.commands.extract import ensure_tables
from jobs.maps import NoMap, create_map, queue_map
from jobs.models import Job
from jobs.requests import MapRequest


class Command(BaseCommand):
    help = "Lay out the features of an SAE as a map, and find and name its clusters. Queued, unless --local."

    def add_arguments(self, parser: ArgumentParser) -> None:
        defaults = MapRequest(sae="")
        parser.add_argument("--sae", required=True, help="slug of an SAE that has features here")
        parser.add_argument(
            "--n-neighbors",
            type=int,
            default=defaults.n_neighbors,
            help="how far the map looks around a feature (default: %(default)s)",
        )
        parser.add_argument(
            "--min-dist", type=float, default=defaults.min_dist, help="how close points may come (default: %(default)s)"
        )
        parser.add_argument("--seed", type=int, default=defaults.seed)
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--local", action="store_true", help="run in this process, without a queue")
        where.add_argument("--wait", action="store_true", help="queue it, and follow it to its end")

    def handle(self, *args: Any, **options: Any) -> None:
        ensure_tables()
        try:
            request = MapRequest(**{name: options[name] for name in ("sae", "n_neighbors", "min_dist", "seed")})
            job = create_map(request, owner=None) if options["local"] else self.queue(request)
        except (ValueError, NoMap) as error:
            raise CommandError(str(error)) from error
        if options["local"]:
            self.run_here(job)
        elif options["wait"]:
            follow(job)
        else:
            self.stdout.write(f"Queued as job {job.pk}.")
            return
        job.refresh_from_db()
        if job.state != Job.State.DONE:
            raise CommandError(job.error or f"Job {job.pk} is {job.state}, and nobody works on it: see its page.")
        self.stdout.write(outcome(request.sae))

    def queue(self, request: MapRequest) -> Job:
        from kombu.exceptions import OperationalError

        try:
            return queue_map(request, owner=None)
        except OperationalError as error:
            raise CommandError(
                f"The queue cannot be reached ({error}): start Redis and a worker (`make demo` does), or use --local."
            ) from error

    def run_here(self, job: Job) -> None:
        from jobs.presence import own_name
        from jobs.work.loop import work

        with Bar() as bar:
            work(job.pk, own_name(), bar.show)


def outcome(sae: str) -> str:
    """The newest map of the SAE as a sentence."""
    layout = Layout.objects.filter(sae__slug=sae).defer("xy", "cluster").first()
    if layout is None:
        return "The map has been removed since."
    inside = sum(cluster["size"] for cluster in layout.clusters)
    return (
        f"Map {layout.pk} of {sae}, made in {layout.seconds:.0f} s: {len(layout.clusters):,} clusters hold {inside:,} "
        f"features; {100 * layout.provenance['kept']:.1f} % of the nearest directions are among the nearest points."
    )
