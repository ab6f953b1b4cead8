"""Pages of the jobs: the list, one job, and the form that asks for one. Everybody signed in may look."""

from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django.views.decorators.vary import vary_on_headers
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from features.models import Run
from features.roles import may_change
from jobs import services
from jobs.forms import PLACES, ExtractionForm
from jobs.models import Job
from jobs.shard_table import shard_table, workers_at

ENDED_PER_PAGE = 50
NOT_TOLD = (
    "The job is queued, but the queue (Redis) cannot be reached, so no worker has been told of it. "
    "Start Redis, or correct REDIS_URL, then press “Send again” on the job's page."
)
T = TypeVar("T")


@require_GET
@vary_on_headers("HX-Request")
def job_list(request: HttpRequest) -> HttpResponse:
    before = request.GET.get("before", "")
    ended = list(Job.objects.for_listing().ended_before(_number(before))[: ENDED_PER_PAGE + 1])
    live = [] if before else list(Job.objects.for_listing().live())
    running = [job for job in live if job.state == Job.State.RUNNING]
    at_work = workers_at(running) if running else {}
    ctx = {
        "running": [(job, at_work[job.pk]) for job in running],
        "queued": [job for job in live if job.state == Job.State.QUEUED],
        "ended": ended[:ENDED_PER_PAGE],
        "older": ended[ENDED_PER_PAGE - 1].pk if len(ended) > ENDED_PER_PAGE else None,
        "before": before,
    }
    return render(request, "jobs/_list.html" if request.headers.get("HX-Request") else "jobs/list.html", ctx)


@require_GET
def job_page(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "jobs/job.html", _job_context(request, pk))


@require_GET
def job_progress(request: HttpRequest, pk: int) -> HttpResponse:
    """What changes while it runs. The buttons come along only when other ones are due: a swap can eat a click."""
    ctx = _job_context(request, pk)
    changed = request.GET.get("seen") != ctx["phase"]
    return render(request, "jobs/_progress.html", ctx | {"changed": changed, "fragment": True})


@require_http_methods(["GET", "POST"])
@vary_on_headers("HX-Request")
def job_new(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        form = ExtractionForm(request.POST, user=request.user)
        if form.is_valid():
            job = _commit(request, lambda: services.queue_extraction(form.request(), owner=request.user))
            return redirect(job)
    elif request.headers.get("HX-Request"):
        form = ExtractionForm(request.GET, user=request.user)
        known = {"estimate": form.estimate(), "memory": form.memory(), "latest": _latest_run()}
        return render(request, "jobs/_estimate.html", known)
    else:
        form = ExtractionForm(user=request.user)
        form.initial = _suggested(request, form)
    ctx = {"form": form, "latest": _latest_run()}
    return render(request, "jobs/new.html", ctx, status=422 if form.errors else 200)


@require_POST
def job_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    job = _changeable(request, pk)
    if not Job.objects.cancel(job.pk):
        messages.info(request, f"Job {pk} had already ended, so there was nothing to cancel.")
    return redirect(job)


@require_POST
def job_retry(request: HttpRequest, pk: int) -> HttpResponse:
    job = _changeable(request, pk)
    if not _commit(request, lambda: services.retry(job)):
        messages.info(request, f"Job {pk} was not sent again: it is done, or a worker is at it.")
    return redirect(job)


def _job_context(request: HttpRequest, pk: int) -> dict[str, Any]:
    job = get_object_or_404(Job.objects.for_page(), pk=pk)
    return {
        "job": job,
        "shards": shard_table(job),
        "may_change": may_change(request.user, job.owner_id),
        "phase": f"{job.state}{'-again' if job.can_send_again else ''}",
    }


def _changeable(request: HttpRequest, pk: int) -> Job:
    job = get_object_or_404(Job, pk=pk)
    if not may_change(request.user, job.owner_id):
        raise PermissionDenied(f"Job {pk} belongs to somebody else: only its owner and administrators may change it.")
    return job


def _commit(request: HttpRequest, write: Callable[[], T]) -> T:
    """Write in a transaction. What is sent to the workers is sent after the commit, so a dead queue undoes nothing."""
    try:
        with transaction.atomic():
            result = write()
    except (OperationalError, RedisError):
        messages.error(request, NOT_TOLD)
    return result


def _latest_run() -> Run | None:
    return Run.objects.latest_first().first()


def _suggested(request: HttpRequest, form: ExtractionForm) -> dict[str, Any]:
    """First values of the form: of the job named by ?like=, else of the address (``?sae=SLUG``)."""
    pk = _number(request.GET.get("like", ""))
    like = None if pk is None else Job.objects.filter(pk=pk).first()
    given = like.settings if like else {name: request.GET[name] for name in PLACES if name in request.GET}
    for name in PLACES:
        listed = {value for _, group in form.choices[name] for value, _ in group}
        if form.may_give_paths and given.get(name) and given[name] not in listed:
            given = {**given, f"{name}_path": given[name]}
    return dict(given)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None
