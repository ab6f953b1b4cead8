"""Cross entropy, what each shard took, and all the reasons for which a run is not valid.

Of the runs that are there, the very dense features are counted; cross entropy stays "not measured".
"""

from typing import Any

from django.db import migrations, models


def complete(apps: Any, schema_editor: Any) -> None:
    dense = apps.get_model("features", "Activity").objects.filter(density__gt=0.1)
    for run in apps.get_model("features", "Run").objects.all():
        run.n_very_dense = dense.filter(run=run).count()
        if reason := run.why_not_valid.rstrip("."):
            run.why_not_valid = f"{reason[0].upper()}{reason[1:]}."
        run.save(update_fields=["n_very_dense", "why_not_valid"])


class Migration(migrations.Migration):

    dependencies = [
        ('features', '0002_packed'),
    ]

    operations = [
        migrations.AddField(
            model_name='run',
            name='ce_ablated',
            field=models.FloatField(help_text='with zeros in place of the activations', null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='ce_delta',
            field=models.FloatField(help_text='ce_reconstructed - ce_original', null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='ce_delta_error',
            field=models.FloatField(help_text='standard error of ce_delta, by context', null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='ce_original',
            field=models.FloatField(help_text='of the model as it is', null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='ce_reconstructed',
            field=models.FloatField(help_text="with the SAE's output in place of the activations", null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='ce_recovered',
            field=models.FloatField(help_text="share of what zeros cost that the SAE's output saves", null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='kl_ablated',
            field=models.FloatField(help_text='KL divergence from the model as it is', null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='kl_reconstructed',
            field=models.FloatField(help_text='KL divergence from the model as it is', null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='kl_recovered',
            field=models.FloatField(help_text='1 - kl_reconstructed / kl_ablated', null=True),
        ),
        migrations.AddField(
            model_name='run',
            name='n_ce_contexts',
            field=models.PositiveIntegerField(default=0, help_text='contexts of the sample'),
        ),
        migrations.AddField(
            model_name='run',
            name='n_ce_tokens',
            field=models.PositiveBigIntegerField(default=0, help_text='predictions of the sample'),
        ),
        migrations.AddField(
            model_name='run',
            name='n_pool_tokens',
            field=models.PositiveBigIntegerField(default=0, help_text='tokens of the sample for co-occurrence'),
        ),
        migrations.AddField(
            model_name='run',
            name='n_very_dense',
            field=models.PositiveIntegerField(default=0, help_text='features that fired on more than 10 % of tokens'),
        ),
        migrations.AddField(
            model_name='run',
            name='work',
            field=models.JSONField(blank=True, default=list, help_text='what each shard took: number, tokens, seconds, worker, device, attempts, note'),
        ),
        migrations.AlterField(
            model_name='run',
            name='why_not_valid',
            field=models.TextField(blank=True, help_text='the reasons, one sentence a line'),
        ),
        migrations.RunPython(complete, migrations.RunPython.noop),
    ]
