"""Serve this Featurescope on one machine: a Redis, two workers and the web server, until Ctrl-C."""

from argparse import ArgumentParser, ArgumentTypeError
from contextlib import suppress
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from interp_site.local.launch import (
    CannotLaunch,
    listen,
    prepare_site,
    start_interactive,
    start_redis,
    start_web,
    start_worker,
    way_in,
)
from interp_site.local.processes import ChildFailed, Children, Stopped
from interp_site.local.redis import UnsafeFolder


class Command(BaseCommand):
    help = "Start Redis, two workers and the web server on this machine, and serve until Ctrl-C."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=port, default=8000, help="of the address to serve at (default: 8000)")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with Children() as children:
                self.launch(children, options)
        except (CannotLaunch, ChildFailed, UnsafeFolder) as error:
            raise CommandError(str(error)) from error
        except Stopped as stopped:
            raise CommandError("Stopped before everything was ready.", returncode=130) from stopped

    def launch(self, children: Children, options: dict[str, Any]) -> None:
        with listen(options["port"]) as listener:
            self.say("Preparing the database and the static files …")
            prepare_site()
            self.say("Starting Redis, two workers and the web server …")
            start_redis(children)
            start_worker(children)
            start_interactive(children)
            start_web(children, listener)
            children.wait()
            self.prepare(options)
            self.say(f"Open {way_in(listener.getsockname()[1])}")
            self.say("The address signs you in, once. Ctrl-C stops everything.")
            with suppress(Stopped):
                children.watch()

    def prepare(self, options: dict[str, Any]) -> None:
        """What is done once everything answers, before the address is printed."""

    def say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) < 2**16:
        raise ArgumentTypeError(f"{text!r} is not a port: it must be a number from 0 (any free one) to 65535.")
    return int(text)
