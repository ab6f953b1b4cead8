"""Full-text search: what each database needs for it beside Django's own tables."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("features", "0005_dashboard")]
    operations: list = []
