"""The demo: a real model and real text, extracted by a worker and served."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from features.models import Run
from interp_site.local.launch import local_user, prepare_site, start_redis, start_worker
from interp_site.local.processes import Children
from interp_site.management.commands import serve
from jobs import demo


class Command(serve.Command):
    help = "Extract the features of the demo's SAE from the demo's text, if that is not done yet, and serve them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--tokens", type=int, help="read at most so many of the demo's text (default: all of it)")
        parser.add_argument("--no-serve", action="store_true", help="end when the run is there")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["tokens"] is not None and options["tokens"] < 1:
            raise CommandError(f"--tokens must be at least 1, not {options['tokens']}.")
        super().handle(*args, **options)

    def launch(self, children: Children, options: dict[str, Any]) -> None:
        if not options["no_serve"]:
            super().launch(children, options)
            return
        prepare_site()
        if not demo.is_ready():
            start_redis(children)
            start_worker(children)
            children.wait()
        self.prepare(options)

    def prepare(self, options: dict[str, Any]) -> None:
        try:
            run = demo.prepare(local_user(), options["tokens"])
        except demo.DemoError as error:
            raise CommandError(str(error)) from error
        for line in facts(run):
            self.say(line)
        demo.draw(run, local_user(), wait=options["no_serve"])


def facts(run: Run) -> list[str]:
    """What was read and found, for the terminal."""
    sae = run.sae
    verdict = "" if run.valid else f"NOT VALID FOR THIS MODEL: {run.why_not_valid}"
    return [
        f"{sae.model}, {sae.site}: {sae.architecture} SAE, {sae.d_in:,} to {sae.d_sae:,}",
        f"{run.n_tokens:,} tokens of {run.n_documents:,} documents, {run.tokens_per_second:,.0f} tokens/s",
        f"{run.n_alive:,} of {sae.d_sae:,} features fire; "
        f"explained variance {run.explained_variance:.3f}, {run.l0:.1f} features per token",
        *([verdict] if verdict else []),
    ]
