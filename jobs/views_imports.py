"""Features that come from elsewhere and go there: the list of imports, the page of each, and the export of a run."""

from pathlib import Path
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import PermissionDenied, TooManyFilesSent
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_POST, require_safe

from features.models import Run
from features.roles import is_administrator, may_change
from jobs import imports
from jobs.catalogue import NotUsable
from jobs.models import Import
from jobs.transfer.archive import zipped
from jobs.transfer.out import Named, files

SHOWN = 100
FORM_BYTES = 1 << 20  # of a multipart form, beside its files
ONLY_ADMINISTRATORS = "Path: only an administrator may give a path on the server; upload the files instead."


class NameForm(forms.Form):
    name = forms.CharField(
        label="Name",
        required=False,
        max_length=200,
        help_text="Of the SAE, if it is new. Empty: as the files call it.",
        error_messages={"max_length": "Name: give at most %(limit_value)d characters."},
    )


class PathForm(NameForm):
    """Something that lies on the server: workers read it, so whoever could name it could read any file there."""

    path = forms.CharField(
        label="Path",
        max_length=500,
        help_text="A folder, a file or a .zip that the workers can read, from /.",
        error_messages={
            "required": "Path: give the full path of a folder, a file or a .zip.",
            "max_length": "Path: give at most %(limit_value)d characters.",
        },
    )

    def clean_path(self) -> Path:
        path = Path(self.cleaned_data["path"])
        if not path.is_absolute() or "\0" in str(path):
            raise forms.ValidationError("Path: give it in full, from /.")
        return path


@csrf_exempt  # of the outer view alone: the check reads the whole form, and one that is too large is not to be read
def import_list(request: HttpRequest) -> HttpResponse:
    """The list, and the two forms that add to it: files of this computer, or a path."""
    if request.method == "POST":
        if int(request.META.get("CONTENT_LENGTH") or 0) > settings.MAX_IMPORT_BYTES + FORM_BYTES:
            return _list(request, fault="The files are larger than what may be sent here.", status=413)
        try:
            return _add(request)
        except TooManyFilesSent:
            fault = f"One form takes {imports.MAX_FILES} files at most: send a .zip of them, or fewer at a time."
            return _list(request, fault=fault, status=413)
    return _list(request)


@csrf_protect
def _add(request: HttpRequest) -> HttpResponse:
    return _add_path(request) if "path" in request.POST else _add_files(request)


def _add_files(request: HttpRequest) -> HttpResponse:
    form = NameForm(request.POST)
    if not form.is_valid():
        return _list(request, upload=form, status=422)
    try:
        row = imports.add_upload(request.FILES.getlist("files"), form.cleaned_data["name"], request.user)
    except NotUsable as error:
        return _list(request, upload=form, fault=str(error), status=422)
    except OSError as error:
        reason = error.strerror or "its storage does not answer"
        fault = f"The server could not write what was sent ({reason}): ask whoever runs it, then try again."
        return _list(request, upload=form, fault=fault, status=507)
    return redirect(row)


def _add_path(request: HttpRequest) -> HttpResponse:
    form = PathForm(request.POST)
    if not is_administrator(request.user):
        return _list(request, fault=ONLY_ADMINISTRATORS, status=403)
    if not form.is_valid():
        return _list(request, path=form, status=422)
    return redirect(imports.add_path(form.cleaned_data["path"], form.cleaned_data["name"], request.user))


@require_safe
def import_page(request: HttpRequest, pk: int) -> HttpResponse:
    return render(request, "jobs/import.html", _context(request, _import(pk)))


@require_GET
def import_state(request: HttpRequest, pk: int) -> HttpResponse:
    """What changes while a worker is at it. Once that ends, the page is to be loaded anew."""
    row = _import(pk)
    response = render(request, "jobs/_import.html", _context(request, row))
    if not row.is_live:
        response.headers["HX-Refresh"] = "true"
    return response


@require_POST
def import_read(request: HttpRequest, pk: int) -> HttpResponse:
    row = _changeable(request, pk)
    imports.read_again(row)
    return redirect(row)


@require_POST
def import_delete(request: HttpRequest, pk: int) -> HttpResponse:
    imports.delete(_changeable(request, pk))
    return redirect("imports")


@require_safe
def export(request: HttpRequest, pk: int) -> StreamingHttpResponse:
    """The run as a .zip, made while it is sent."""
    run = get_object_or_404(Run.objects.select_related("sae__model", "corpus"), pk=pk)
    body = zipped(files(run)) if request.method == "GET" else iter(())
    answer = StreamingHttpResponse(body, content_type="application/zip")
    name = Named.of(run).folder.split("/", 1)[1].replace("/", "-").encode("ascii", "replace").decode().replace("?", "_")
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}.zip"'
    return answer


def _list(
    request: HttpRequest,
    upload: NameForm | None = None,
    path: PathForm | None = None,
    fault: str = "",
    status: int = 200,
) -> HttpResponse:
    ctx = {
        "upload": upload or NameForm(auto_id="upload_%s"),
        "path": path or PathForm(auto_id="path_%s"),
        "may_give_paths": is_administrator(request.user),
        "fault": fault,
        "imports": Import.objects.for_listing()[:SHOWN],
        "accepted": ",".join(imports.ACCEPTED),
        "limit": settings.MAX_IMPORT_BYTES,
    }
    return render(request, "jobs/imports.html", ctx, status=status)


def _context(request: HttpRequest, row: Import) -> dict[str, Any]:
    return {"import": row, "may_change": may_change(request.user, row.owner_id)}


def _import(pk: int) -> Import:
    return get_object_or_404(Import.objects.select_related("owner", "run__sae"), pk=pk)


def _changeable(request: HttpRequest, pk: int) -> Import:
    row = _import(pk)
    if not may_change(request.user, row.owner_id):
        raise PermissionDenied(f"{row} belongs to somebody else: only its owner and administrators may change it.")
    return row
