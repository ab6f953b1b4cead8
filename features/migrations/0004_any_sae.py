"""SAEs of any format on any hook point: their cards, where transcoders write, and the experts of a model.

What earlier rows do not have stays "not known": the next run of an SAE or a model fills in its card or hook points.
"""

import django.db.models.functions.comparison
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('features', '0003_run_quality'),
    ]

    operations = [
        migrations.RemoveConstraint(
            model_name='sae',
            name='one_row_per_sae',
        ),
        migrations.RemoveConstraint(
            model_name='sae',
            name='one_row_per_sae_without_k',
        ),
        migrations.AddField(
            model_name='activity',
            name='experts',
            field=models.BinaryField(default=b'', help_text='experts chosen when it fires, by share and by lift; or empty'),
        ),
        migrations.AddField(
            model_name='languagemodel',
            name='hook_points',
            field=models.JSONField(blank=True, default=list, help_text='hook, width and layers of each, and the routers; empty if not known yet'),
        ),
        migrations.AddField(
            model_name='run',
            name='experts',
            field=models.JSONField(help_text='router_layer, n_experts, per_token, and shares of all tokens by expert; null if dense', null=True),
        ),
        migrations.AddField(
            model_name='sae',
            name='card',
            field=models.JSONField(blank=True, default=dict, help_text='what its files say, as the loader understood them'),
        ),
        migrations.AddField(
            model_name='sae',
            name='centred',
            field=models.BooleanField(default=False, help_text='the mean over d_in is taken off its input first'),
        ),
        migrations.AddField(
            model_name='sae',
            name='hook_out',
            field=models.CharField(blank=True, help_text="where a transcoder's output belongs, else empty", max_length=200),
        ),
        migrations.AddField(
            model_name='sae',
            name='layer_out',
            field=models.PositiveIntegerField(help_text='null unless a transcoder', null=True),
        ),
        migrations.AlterField(
            model_name='sae',
            name='hook',
            field=models.CharField(help_text='where it reads', max_length=200),
        ),
        migrations.AddConstraint(
            model_name='sae',
            constraint=models.UniqueConstraint(models.F('digest'), models.F('model'), models.F('hook'), models.F('layer'), django.db.models.functions.comparison.Coalesce('k', models.Value(0)), models.F('hook_out'), django.db.models.functions.comparison.Coalesce('layer_out', models.Value(0)), models.F('centred'), name='one_row_per_sae'),
        ),
    ]
