"""From what a request names to what the engine loads: slugs of registered rows, or places on this machine."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings

from features.models import SAE, Corpus, LanguageModel
from jobs import checkpoints
from jobs.checkpoints import OVERRIDES, Located
from jobs.requests import ExtractionRequest


def absolute(text: str) -> str:
    """``text`` with its whole path, if it is a path that exists here: a worker may stand in another folder.

    Links are kept: names on the way to an SAE say its layer, and a hub's cache links to files without names.
    """
    try:
        path = Path(text).expanduser()
        return os.path.abspath(path) if path.exists() else text  # noqa: PTH100 - takes ".." out, unlike Path.absolute
    except (OSError, RuntimeError, ValueError):  # no such user, no permission, no possible path
        return text


@dataclass(frozen=True)
class ModelSource:
    """What ``load_model`` is told of a model beside where to put it."""

    source: str
    revision: str = ""
    trust_remote_code: bool = False


def model_source(request: ExtractionRequest) -> ModelSource:
    """The code that comes with a model is run only if an administrator has listed exactly this source."""
    row = LanguageModel.objects.filter(slug=request.model).first()
    source, revision = (row.source, row.revision) if row else (request.model, "")
    return ModelSource(source, revision, trust_remote_code=source in settings.TRUST_REMOTE_CODE)


def sae_located(request: ExtractionRequest) -> tuple[Located, dict[str, Any]]:
    """The SAE's files with their lasting name, fetched where need be, and what to say for them to ``load_sae``.

    That is what the request gives, else what is known. Raises EngineError.
    """
    row = SAE.objects.filter(slug=request.sae).first()
    known = checkpoints.said_of(request.sae)
    if row is not None:
        known = {name: getattr(row, name) for name in OVERRIDES}
        known["hook_out"] = row.hook_out or None
        if row.layer_out is not None and request.hook_out is None:  # it moves along with what is read
            known["layer_out"] = row.layer_out + (0 if request.layer is None else request.layer - row.layer)
    given = {name: value for name in OVERRIDES if (value := getattr(request, name)) is not None}
    return checkpoints.locate(row.source if row else request.sae), known | given


def corpus_source(request: ExtractionRequest) -> str:
    row = Corpus.objects.filter(slug=request.corpus).first()
    return row.source if row else request.corpus
