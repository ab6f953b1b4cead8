"""Running a text through a feature, for programs."""

import time
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpRequest
from django.urls import reverse
from ninja import Field, Router, Schema, Status

from features.api.auth import researcher, viewer
from features.api.schemas import Problem
from features.evidence import NotFound, find_feature, find_sae
from features.models import ApiKey
from jobs import answers, trials
from jobs.models import Trial

router = Router(tags=["Trials"])
MAX_WAIT, LOOK_EVERY = 30.0, 0.05  # seconds
FAULTS: dict[int, Any] = {401: Problem, 404: Problem}


class TextIn(Schema):
    text: str = Field(description=f"1 to {trials.MAX_CHARACTERS:,} characters")
    wait: float = Field(5.0, ge=0, le=MAX_WAIT, description="seconds to wait for the answer, before 202 names its url")


class TrialOut(Schema):
    """A text on its way."""

    id: int
    url: str = Field(description="where its answer will be")
    state: str = Field(description="waiting, running, done or failed")
    error: str = Field(description="why it failed; empty otherwise")


class ActivationsOut(TrialOut):
    sae: str
    index: int
    text: str
    token_ids: list[int]
    tokens: list[str]
    values: list[float] = Field(description="the activation of each token; 0 where it does not fire or is masked")
    positions: list[int] = Field(description="where it fires, from 0")
    max_value: float
    max_position: int | None
    corpus_maximum: float | None = Field(description="the feature's largest value in the run that it was read like")
    masked: list[int] = Field(description="positions of sinks, which are masked as in the run")
    n_tokens: int = Field(description="of the whole text; more than values where it was cut")
    seconds: float
    worker: str
    device: str
    provenance: dict[str, Any] = Field(description="digests of model and SAE, run, dtype, sink threshold and code")


@router.post(
    "/saes/{slug}/features/{index}/activations",
    auth=researcher,
    response={
        200: ActivationsOut,
        202: TrialOut,
        403: Problem,
        409: Problem,
        422: Problem,
        429: Problem,
        503: Problem,
        **FAULTS,
    },
    summary="Run a text through one feature",
)
def run_text(request: HttpRequest, slug: str, index: int, asked: TextIn) -> Any:
    sae = find_sae(slug)
    find_feature(sae, index)
    try:
        trial = trials.ask(sae, index, asked.text, _who(request))
    except trials.Refused as refused:
        return Status(refused.status, {"detail": str(refused)})
    except trials.NoQueue as down:
        return Status(503, {"detail": str(down)})
    return _answer(request, _waited(trial, asked.wait), asked.text)


@router.get(
    "/trials/{pk}",
    auth=viewer,
    response={200: ActivationsOut, 202: TrialOut, 422: Problem, **FAULTS},
    summary="A text that was run, or is on its way",
)
def get_trial(request: HttpRequest, pk: int) -> Any:
    trial = Trial.objects.visible_to(_who(request)).select_related("sae__model").filter(pk=pk).first()
    if trial is None:
        raise NotFound("There is no trial of yours with this number.")
    return _answer(request, trial, trial.text)


def _answer(request: HttpRequest, trial: Trial, text: str) -> Status[dict[str, Any]]:
    known = {
        "id": trial.pk,
        "url": request.build_absolute_uri(reverse("api:get_trial", args=[trial.pk])),
        "state": trial.state,
        "error": trial.error,
    }
    if trial.is_live:
        return Status(202, known)
    if trial.state == Trial.State.FAILED:
        return Status(422, {"detail": trial.error})
    return Status(200, known | _found(trial, text))


def _found(trial: Trial, text: str) -> dict[str, Any]:
    answer = answers.answer_of(trial)
    return {
        "sae": trial.sae.slug,
        "index": trial.index,
        "text": text,
        "token_ids": answer.token_ids.tolist(),
        "tokens": answer.tokens.texts(answer.token_ids),
        "values": answer.values.tolist(),
        "positions": answer.values.nonzero()[0].tolist(),
        "max_value": answer.maximum,
        "max_position": answer.peak if answer.fires else None,
        "corpus_maximum": answer.corpus_maximum,
        "masked": answer.sinks,
        "n_tokens": trial.provenance["n_tokens"],
        "seconds": trial.seconds,
        "worker": trial.worker,
        "device": trial.device,
        "provenance": trial.provenance,
    }


def _waited(trial: Trial, seconds: float) -> Trial:
    """The trial once it has ended, or as it is after ``seconds``."""
    until = time.monotonic() + seconds
    while True:
        found = Trial.objects.select_related("sae__model").filter(pk=trial.pk).first()
        if found is None:
            raise NotFound("The text was taken back.")
        if not found.is_live or time.monotonic() >= until:
            return found
        time.sleep(LOOK_EVERY)


def _who(request: HttpRequest) -> User:
    """The person behind the session or the key."""
    auth: Any = getattr(request, "auth", None)
    return auth.user if isinstance(auth, ApiKey) else request.user  # type: ignore[return-value]
