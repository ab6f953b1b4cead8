"""Texts that were tried, as snapshots: what came of one, whole, with what it was computed with."""

from collections.abc import Mapping
from typing import Any

from features.evidence import NotFound, find_feature
from features.knowledge.rules import Refused
from features.models import Kind, Run
from features.sharing.shapes import float32s
from features.sharing.taking import BUILDERS, Taken, label_of, named_number, plain, source, title_of, token_texts
from jobs import answers
from jobs.models import Trial

TIMES = {"loading"}
"""What a trial's provenance says of how long it took: a text that is run twice is the same evidence."""


def take_text(named: Mapping[str, Any], user: Any) -> Taken:
    """``trial``: the number of one that is done."""
    number = named_number(named, "trial")
    trial = Trial.objects.visible_to(user).select_related("sae__model").filter(pk=number).first()
    if trial is None:
        raise NotFound("There is no trial of yours with this number.")
    if trial.state != Trial.State.DONE:
        raise Refused("This text has no answer yet: wait for it, then freeze it.")
    run = Run.objects.select_related("corpus").filter(pk=trial.provenance.get("run")).first()
    name = f"{trial.sae.slug}/{trial.index}"
    content = _content(trial)
    return Taken(
        Kind.TEXT,
        f"text on {name}: {trial.text}"[:400],
        title_of(f"A text through feature {trial.index} of {trial.sae.name}: {trial.text}"),
        [source(trial.sae, run)],
        content,
        open=False,
    )


def _content(trial: Trial) -> dict[str, Any]:
    answer = answers.answer_of(trial)
    ids = answer.token_ids.tolist()
    near = answer.near
    return {
        "index": trial.index,
        "label": label_of(find_feature(trial.sae, trial.index).label),
        "text": trial.text,
        "token_ids": ids,
        "values": float32s(answer.values),
        "sinks": answer.sinks,
        "near": {"position": near.position, "value": near.pre_activation} if near else None,
        "n_tokens": trial.provenance["n_tokens"],
        "corpus_maximum": answer.corpus_maximum,
        "device": trial.device,
        "provenance": plain({key: value for key, value in trial.provenance.items() if key not in TIMES}),
        "tokens": token_texts(answer.tokens, ids),
    }


def register() -> None:
    BUILDERS[Kind.TEXT.value] = take_text
