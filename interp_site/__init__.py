"""Settings, addresses and the Celery application."""

from interp_site.celery import app as celery_app

__all__ = ["celery_app"]
