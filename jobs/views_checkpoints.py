"""SAEs that people add: the list with the ways to add one, the page of each, and where the pieces of uploads go."""

import json
from typing import Any

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from features.roles import is_administrator, may_change
from jobs import checkpoints, uploads
from jobs.catalogue import NotUsable
from jobs.forms import OverridesForm, PlaceForm
from jobs.models import Checkpoint

SHOWN = 100
FORM_BYTES = 1 << 20  # of a multipart form, beside its files


@require_http_methods(["GET", "POST"])
def checkpoint_list(request: HttpRequest) -> HttpResponse:
    """Also takes the form that names a place."""
    form = PlaceForm(request.POST if request.method == "POST" else None, may_give_paths=is_administrator(request.user))
    if form.is_valid():
        return redirect(checkpoints.add_place(form.cleaned_data["place"], form.cleaned_data, request.user))
    return _list(request, form=form, status=422 if form.errors else 200)


@csrf_exempt  # of the outer view alone: the check reads the whole form, and one that is too large is not to be read
def checkpoint_form(request: HttpRequest) -> HttpResponse:
    """Whole files in one form, for a browser without JavaScript."""
    if request.method != "POST":
        return redirect("checkpoints")
    if int(request.META.get("CONTENT_LENGTH") or 0) > settings.MAX_SAE_BYTES + FORM_BYTES:
        return _list(request, fault="The files are larger than what may be sent here.", status=413)
    return _checkpoint_form(request)


@csrf_protect
def _checkpoint_form(request: HttpRequest) -> HttpResponse:
    form = OverridesForm(request.POST)
    sent = request.FILES.getlist("files")
    try:
        checkpoint = checkpoints.add_upload([_listed(file) for file in sent], _overrides(form), request.user)
    except NotUsable as error:
        return _list(request, fault=str(error), status=422)
    try:
        for number, file in enumerate(sent):
            checkpoints.receive_whole(checkpoint, number, file)
    except OSError as error:
        checkpoints.delete(checkpoint)
        return _list(request, fault=_disk(error), status=507)
    return redirect(checkpoint)


@require_POST
def checkpoint_upload(request: HttpRequest) -> JsonResponse:
    """Announce the files that will come in pieces: a JSON object with ``files`` and what their owner says of them."""
    try:
        asked = json.loads(request.body)
        if not isinstance(asked, dict):
            raise NotUsable("The list of files is no JSON object.")
        checkpoint = checkpoints.add_upload(asked.get("files"), _overrides(OverridesForm(asked)), request.user)
    except (ValueError, RecursionError):
        return _fault("The list of files is not valid JSON.")
    except NotUsable as error:
        return _fault(str(error))
    return JsonResponse(_progress(checkpoint), status=201)


@require_GET
def checkpoint_page(request: HttpRequest, pk: int) -> HttpResponse:
    checkpoint = _checkpoint(pk)
    form = OverridesForm(initial=checkpoint.overrides | {"centred": _choice(checkpoint)})
    return render(request, "jobs/checkpoint.html", _context(request, checkpoint) | {"form": form})


@require_GET
def checkpoint_state(request: HttpRequest, pk: int) -> HttpResponse:
    """What changes while a worker is at it. Once that ends, the page is to be loaded anew."""
    checkpoint = _checkpoint(pk)
    response = render(request, "jobs/_checkpoint.html", _context(request, checkpoint))
    if not checkpoint.is_live:
        response.headers["HX-Refresh"] = "true"
    return response


@require_GET
def checkpoint_files(request: HttpRequest, pk: int) -> JsonResponse:
    """How much of an upload is here."""
    return JsonResponse(_progress(_changeable(request, pk)))


@require_http_methods(["PUT"])
def checkpoint_file(request: HttpRequest, pk: int, number: int) -> JsonResponse:
    """One piece of one file: its bytes are the body, and ``?offset=`` says where they belong."""
    checkpoint = _changeable(request, pk)
    offset, length = _number(request.GET.get("offset")), _number(request.META.get("CONTENT_LENGTH") or "0")
    if number >= len(checkpoint.files) or offset is None or length is None:
        return _fault("A piece needs the number of its file, its ?offset= and its length.", status=400)
    try:
        checkpoints.receive(checkpoint, number, offset, length, request)
    except uploads.OutOfPlace:
        return JsonResponse(_progress(_checkpoint(pk)), status=409)
    except NotUsable as error:
        return _fault(str(error), status=413)
    except UnreadablePostError:
        return _fault("The connection broke within this piece.", status=400)
    except OSError as error:
        return _fault(_disk(error), status=507)
    return JsonResponse(_progress(_checkpoint(pk)))


@require_POST
def checkpoint_read(request: HttpRequest, pk: int) -> HttpResponse:
    """Have it read again, with what is said of it now."""
    checkpoint = _changeable(request, pk)
    form = OverridesForm(request.POST)
    if not form.is_valid():
        return render(request, "jobs/checkpoint.html", _context(request, checkpoint) | {"form": form}, status=422)
    checkpoints.read_again(checkpoint, form.cleaned_data)
    return redirect(checkpoint)


@require_POST
def checkpoint_delete(request: HttpRequest, pk: int) -> HttpResponse:
    checkpoints.delete(_changeable(request, pk))
    return redirect("checkpoints")


def _list(request: HttpRequest, status: int, form: PlaceForm | None = None, fault: str = "") -> HttpResponse:
    ctx = {
        "form": form or PlaceForm(may_give_paths=is_administrator(request.user)),
        "overrides": OverridesForm(auto_id="upload_%s"),
        "fault": fault,
        "checkpoints": Checkpoint.objects.for_listing()[:SHOWN],
        "suffixes": ",".join(uploads.SUFFIXES),
        "limit": settings.MAX_SAE_BYTES,
        "max_files": uploads.MAX_FILES,
    }
    return render(request, "jobs/checkpoints.html", ctx, status=status)


def _context(request: HttpRequest, checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "checkpoint": checkpoint,
        "files": _progress(checkpoint)["files"],
        "may_change": may_change(request.user, checkpoint.owner_id),
        "suffixes": ",".join(uploads.SUFFIXES),
    }


def _progress(checkpoint: Checkpoint) -> dict[str, Any]:
    """Of an upload, as its browser is told."""
    files = [
        {name: file[name] for name in ("name", "bytes", "modified")}
        | {"received": uploads.received(checkpoint, number), "stored": bool(file["stored"])}
        for number, file in enumerate(checkpoint.files)
    ]
    address = checkpoint.get_absolute_url()
    return {"url": address, "state": checkpoint.state, "piece": uploads.MAX_PIECE, "files": files}


def _overrides(form: OverridesForm) -> dict[str, Any]:
    if not form.is_valid():
        raise NotUsable(" ".join(str(error) for errors in form.errors.values() for error in errors))
    return form.cleaned_data


def _listed(file: UploadedFile) -> dict[str, Any]:
    return {"name": file.name, "bytes": file.size}


def _checkpoint(pk: int) -> Checkpoint:
    return get_object_or_404(Checkpoint.objects.for_listing(), pk=pk)


def _changeable(request: HttpRequest, pk: int) -> Checkpoint:
    checkpoint = _checkpoint(pk)
    if not may_change(request.user, checkpoint.owner_id):
        raise PermissionDenied(f"{checkpoint} is somebody else's: only its owner and administrators may change it.")
    return checkpoint


def _choice(checkpoint: Checkpoint) -> str:
    return {None: "", True: "true", False: "false"}[checkpoint.overrides.get("centred")]


def _disk(error: OSError) -> str:
    reason = error.strerror or "its storage does not answer"
    return f"The server could not write what was sent ({reason}): ask whoever runs it, then try again."


def _fault(sentence: str, status: int = 422) -> JsonResponse:
    return JsonResponse({"error": sentence}, status=status)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) < 19 else None
