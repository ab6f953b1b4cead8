"""Worker: a Celery worker as it last described itself (jobs.presence).

Its parent process writes what the machine says; the child that works writes what it is at.
"""

from datetime import timedelta
from typing import Self

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from jobs.models.job import Job

FORGOTTEN_AFTER = timedelta(hours=1)


class WorkerQuerySet(models.QuerySet["Worker"]):
    def alive(self) -> Self:
        """Heard of within LEASE_SECONDS, by the database's clock."""
        return self.filter(heartbeat_at__gte=Now() - timedelta(seconds=settings.LEASE_SECONDS))

    def forgotten(self) -> Self:
        """Not heard of for so long that nobody asks for it any more."""
        return self.filter(heartbeat_at__lt=Now() - FORGOTTEN_AFTER)


class Worker(models.Model):
    name = models.CharField(max_length=200, unique=True)
    host = models.CharField(max_length=200)
    pid = models.PositiveIntegerField()
    queues = models.JSONField(default=list)
    device = models.CharField(max_length=100, blank=True)
    memory = models.PositiveBigIntegerField(null=True, help_text="bytes that it and its children hold")
    memory_total = models.PositiveBigIntegerField(null=True, help_text="bytes of the machine")
    gpu_memory = models.PositiveBigIntegerField(null=True, help_text="bytes in use on its GPU")
    gpu_memory_total = models.PositiveBigIntegerField(null=True)
    version = models.CharField(max_length=60, blank=True, help_text="commit of the code it runs")
    job = models.ForeignKey(Job, null=True, on_delete=models.SET_NULL, related_name="+")
    doing = models.CharField(max_length=200, blank=True, help_text="in words; empty while it waits")
    child = models.PositiveIntegerField(null=True, help_text="the process that is at it")
    warm = models.JSONField(default=list, help_text="models and SAEs that it keeps loaded")
    started_at = models.DateTimeField()
    heartbeat_at = models.DateTimeField()

    objects = WorkerQuerySet.as_manager()

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name
