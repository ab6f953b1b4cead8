"""Which run a page shows: the newest of its SAE, or the one that ``?run=`` names."""

from urllib.parse import urlencode

from django.http import HttpRequest

from features.evidence import NotFound, find_run, find_sae_and_run, newest_run
from features.models import SAE, Run


def sae_and_run(request: HttpRequest, slug: str) -> tuple[SAE, Run | None]:
    """The SAE of this name and the chosen run; None if none was named and the SAE has none. One query, or two."""
    return find_sae_and_run(slug, _asked(request))


def run_of(request: HttpRequest, sae: SAE) -> Run:
    """The chosen run. Not found if it is another SAE's, or if the SAE has none."""
    return find_run(sae, _asked(request))


def run_if_any(request: HttpRequest, sae: SAE) -> Run | None:
    """The chosen run; None if none was named and the SAE has none."""
    asked = _asked(request)
    return newest_run(sae) if asked is None else find_run(sae, asked)


def run_query(request: HttpRequest) -> str:
    """What a link adds to stay with the run that was chosen; nothing for the newest."""
    asked = request.GET.get("run", "")
    return "?" + urlencode({"run": asked}) if asked else ""


def _asked(request: HttpRequest) -> int | None:
    asked = request.GET.get("run", "")
    if asked and not (asked.isdecimal() and len(asked) < 20):
        raise NotFound("A run is named by its number.")
    return int(asked) if asked else None
