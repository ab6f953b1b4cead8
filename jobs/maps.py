"""Map jobs: asking for a map of an SAE's features, and finding the job that makes one."""

from typing import Any

from django.db import transaction

from features.models import SAE
from jobs.models import Job
from jobs.requests import MapRequest
from jobs.services import dispatch


class NoMap(Exception):
    """There can be no map of this SAE. ``str(error)`` is one sentence that says why."""


def newest_job(sae: SAE) -> Job | None:
    """The last map job of ``sae``: one query."""
    return Job.objects.filter(kind=Job.Kind.MAP, settings__sae=sae.slug).order_by("-pk").first()


def create_map(request: MapRequest, owner: Any) -> Job:
    """A queued job that nobody has been told of. Raises NoMap."""
    sae = SAE.objects.filter(slug=request.sae).first()
    if sae is None:
        raise NoMap(f"There is no SAE {request.sae} here.")
    if not sae.digest:
        raise NoMap(
            f"{sae.name} was imported without its weights, so nobody knows where its features point: "
            "add the SAE itself, and read a text with it, to get a map."
        )
    return Job.objects.create(kind=Job.Kind.MAP, settings=request.as_json(), owner=owner)


def queue_map(request: MapRequest, owner: Any) -> Job:
    """The map job of this SAE that is under way; else a new one, sent to the workers after the commit.

    Raises NoMap.
    """
    with transaction.atomic():
        list(SAE.objects.select_for_update(of=("self",)).filter(slug=request.sae))  # of two who ask, one makes a job
        live = Job.objects.live().filter(kind=Job.Kind.MAP, settings=request.as_json()).first()
        if live is not None:
            return live
        job = create_map(request, owner)
        dispatch(job)
    return job
