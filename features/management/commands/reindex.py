"""``manage.py reindex``: what search reads, made from the rows that are there."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import connection, transaction

from features import shown_labels
from features.models import SAE
from features.search import database, filling


class Command(BaseCommand):
    help = (
        "Make what search reads: phrases with their vectors for labels that have none, word lists for runs that have "
        "none, and the full-text tables. Phrases that no label bears go. Pages stay up meanwhile."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--anew", action="store_true", help="throw all of it away first, vectors included")

    def handle(self, *args: Any, **options: Any) -> None:
        with transaction.atomic():
            if options["anew"]:
                filling.empty(connection)
            gone = filling.forget_unused(connection)
            runs, phrases = filling.fill(connection)
            database.make(connection)
            database.rebuild(connection)
            shown_labels.changed(*SAE.objects.values_list("pk", flat=True))  # phrases have other keys now
        said = f"{phrases:,} phrases and the words of {runs:,} runs were added, {gone:,} unused phrases removed."
        self.stdout.write(said)
