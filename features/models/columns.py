"""Columns: the numbers of all features of a run side by side, as they are sorted, filtered, counted and plotted."""

from django.db import models

from features.models.run import Run


class Columns(models.Model):
    """One row a run, written with it. Features are in the order of their index; features.store.columns packs them."""

    run = models.OneToOneField(Run, on_delete=models.CASCADE, primary_key=True, related_name="columns")
    packed = models.BinaryField()

    class Meta:
        verbose_name_plural = "columns"

    def __str__(self) -> str:
        return f"columns of {self.run_id}"
