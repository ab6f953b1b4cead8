"""From what a request names to what the engine loads: slugs of registered rows, or places on this machine."""

from pathlib import Path

from features.models import SAE, Corpus, LanguageModel
from jobs.requests import ExtractionRequest


def absolute(text: str) -> str:
    """``text`` with its whole path, if it is a path that exists here: a worker may stand in another folder."""
    try:
        path = Path(text).expanduser()
        return str(path.resolve()) if path.exists() else text
    except (OSError, RuntimeError, ValueError):  # no such user, no permission, no possible path
        return text


def model_source(request: ExtractionRequest) -> tuple[str, str]:
    """Source and revision of the model."""
    row = LanguageModel.objects.filter(slug=request.model).first()
    return (row.source, row.revision) if row else (request.model, "")


def sae_source(request: ExtractionRequest) -> tuple[str, dict[str, int | str | None]]:
    """Path of the SAE, and what to say for its files: what the request gives, else what is known of the row."""
    overrides: dict[str, int | str | None] = {"layer": request.layer, "hook": request.hook, "k": request.k}
    row = SAE.objects.filter(slug=request.sae).first()
    if row is None:
        return request.sae, overrides
    known: dict[str, int | str | None] = {
        "layer": row.layer,
        "hook": row.hook,
        "k": row.k if row.architecture == "topk" else None,
    }
    return row.source, {name: known[name] if value is None else value for name, value in overrides.items()}


def corpus_source(request: ExtractionRequest) -> str:
    row = Corpus.objects.filter(slug=request.corpus).first()
    return row.source if row else request.corpus
