"""Full-text search: what each database needs for it beside Django's own tables, and what it reads of earlier rows."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


def make(apps, schema_editor):
    from features.search import database, filling

    database.make_signs(schema_editor.connection)
    filling.fill(schema_editor.connection)
    database.make(schema_editor.connection)


def drop(apps, schema_editor):
    from features.search import database

    database.drop(schema_editor.connection)


class Migration(migrations.Migration):
    dependencies = [("features", "0005_dashboard")]

    operations = [
        # What the vocabulary makes of the tokens.
        migrations.RemoveField(model_name="context", name="text"),
        migrations.AlterField(
            model_name="activity",
            name="feature",
            field=models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name="activities",
                to="features.feature",
            ),
        ),
        migrations.AlterField(
            model_name="label",
            name="author",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to=settings.AUTH_USER_MODEL,
            ),
        ),
        migrations.AddIndex(
            model_name="label",
            index=models.Index(
                condition=models.Q(("author__isnull", False)), fields=["author"], name="label_by_author"
            ),
        ),
        migrations.AddIndex(
            model_name="feature",
            index=models.Index(condition=models.Q(("label__isnull", False)), fields=["label"], name="feature_by_label"),
        ),
        migrations.AlterField(
            model_name="feature",
            name="label",
            field=models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="+",
                to="features.label",
            ),
        ),
        migrations.AddField(
            model_name="phrase",
            name="words",
            field=models.TextField(db_default=""),
        ),
        migrations.CreateModel(
            name="ContextWords",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("revision", models.PositiveIntegerField()),
                ("part", models.PositiveIntegerField()),
                ("first", models.BinaryField()),
                ("last", models.BinaryField()),
                ("packed", models.BinaryField()),
                (
                    "run",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="features.run",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "words of contexts",
                "indexes": [models.Index(models.F("run"), models.F("first"), name="context_words_by_word")],
            },
        ),
        migrations.RunPython(make, drop),
    ]
