from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class FeaturesConfig(AppConfig):
    name = "features"
    verbose_name = "The feature database"

    def ready(self) -> None:
        post_migrate.connect(_mend_search, sender=self, dispatch_uid="features.search")


def _mend_search(using: str, **_: Any) -> None:
    """A migration that writes a table of SQLite anew drops its triggers."""
    from django.db import connections

    from features.search import database

    if "features_contextwords" in connections[using].introspection.table_names():
        database.make(connections[using])
