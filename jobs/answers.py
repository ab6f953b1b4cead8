"""What came of a trial, as it is read."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.models import SAE, Activity
from features.passages import Passage, alone, read_values
from features.store.contexts import unpack_tokens
from features.vocabulary import Tokens, tokens_of
from jobs.models import Trial

SHOWN, LOOKED_AT = 3, 40


@dataclass(frozen=True)
class Near:
    """The token on which a feature that is silent came closest."""

    position: int
    token: str
    pre_activation: float


@dataclass(frozen=True)
class Answer:
    """``values`` float32, one for each of ``token_ids``; 0 where the feature does not fire or the token is masked.

    ``corpus_maximum``: the feature's in the run that the text was read like; None without one.
    """

    token_ids: NDArray[np.uint32]
    values: NDArray[np.float32]
    tokens: Tokens
    corpus_maximum: float | None
    sinks: list[int]
    cut_from: int | None
    near: Near | None

    @property
    def maximum(self) -> float:
        return float(self.values.max(initial=0.0))

    @property
    def fires(self) -> bool:
        return self.maximum > 0

    @property
    def n_firing(self) -> int:
        return int((self.values > 0).sum())

    @property
    def peak(self) -> int:
        return int(self.values.argmax())

    @property
    def peak_token(self) -> str:
        return alone(self.tokens, self.token_ids[self.peak : self.peak + 1])

    @property
    def share(self) -> float | None:
        """Of the largest value in the corpus."""
        return self.maximum / self.corpus_maximum if self.corpus_maximum else None

    @property
    def passage(self) -> Passage:
        """A full highlight is the corpus's maximum, or this text's where that is larger or there is none."""
        full = max(self.corpus_maximum or 0.0, self.maximum)
        return read_values(self.tokens, self.token_ids, self.values.tolist(), full)


@dataclass(frozen=True)
class Earlier:
    """A text that somebody ran, and its maximum on this feature if it was run there."""

    trial: Trial
    maximum: float | None


def answer_of(trial: Trial) -> Answer:
    """Of a trial that is done. One query; two where the model's vocabulary is not in memory."""
    ids, tokens = unpack_tokens(bytes(trial.token_ids)), tokens_of(trial.sae.model)
    said = trial.provenance
    activity = Activity.objects.filter(run=said["run"], index=trial.index)
    near = said.get("near")
    return Answer(
        token_ids=ids,
        values=values_of(trial),
        tokens=tokens,
        corpus_maximum=activity.values_list("max_activation", flat=True).first() if said["run"] else None,
        sinks=said["sinks"],
        cut_from=said["n_tokens"] if said["n_tokens"] > len(ids) else None,
        near=Near(near[0], alone(tokens, ids[near[0] : near[0] + 1]), near[1]) if near else None,
    )


def values_of(trial: Trial) -> NDArray[np.float32]:
    return np.frombuffer(bytes(trial.result), "<f4")


def earlier(owner: Any, sae: SAE, index: int) -> tuple[list[Earlier], list[Earlier]]:
    """The last texts of ``owner`` on this feature, and on others of the SAE: a few of each. One query."""
    mine = Trial.objects.filter(owner=owner, sae=sae, state=Trial.State.DONE).defer("token_ids", "provenance")
    found = list(mine.order_by("-pk")[:LOOKED_AT])
    here = _distinct((trial for trial in found if trial.index == index), set())
    elsewhere = _distinct((trial for trial in found if trial.index != index), {trial.text for trial in here})
    return (
        [Earlier(trial, float(values_of(trial).max(initial=0.0))) for trial in here],
        [Earlier(trial, None) for trial in elsewhere],
    )


def _distinct(trials: Iterable[Trial], seen: set[str]) -> list[Trial]:
    """The first few, each text once and none of ``seen``."""
    kept: dict[str, Trial] = {}
    for trial in trials:
        if trial.text not in seen:
            kept.setdefault(trial.text, trial)
    return list(kept.values())[:SHOWN]
