"""An SAE's row says which change of its labels is the newest: pages need not ask for that."""

from typing import Any

from django.db import migrations, models
from django.db.models import Max


def fill(apps: Any, schema_editor: Any) -> None:
    using = schema_editor.connection.alias
    changes = apps.get_model("features", "LabelChange").objects.using(using)
    for sae, last in changes.order_by().values_list("sae").annotate(last=Max("pk")):
        apps.get_model("features", "SAE").objects.using(using).filter(pk=sae).update(last_label_change=last)


class Migration(migrations.Migration):
    dependencies = [("features", "0007_columns_of_old_runs")]
    operations = [
        migrations.AddField(
            model_name="sae",
            name="last_label_change",
            field=models.PositiveBigIntegerField(
                db_default=0, default=0, help_text="key of the newest LabelChange of its features"
            ),
        ),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
