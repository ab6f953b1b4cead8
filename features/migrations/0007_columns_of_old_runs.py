"""Columns for the runs that were made before there were any."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("features", "0006_search")]
    operations: list = []
