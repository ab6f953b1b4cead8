"""Everything that is shown of one feature in one run, unpacked and joined to the contexts it names."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.db.models import OuterRef, Subquery
from numpy.typing import NDArray

from features.models import SAE, Activity, Context, Feature, Label, Run
from features.store.contexts import unpack_ids
from features.store.examples import BANDS, Example, unpack_examples
from features.store.histogram import Histogram, unpack_histogram
from features.store.ranked import Ranked, unpack_ranked
from features.vocabulary import Tokens, tokens_of


class NotFound(LookupError):
    """What was asked for is not in this database. The message is one sentence."""


@dataclass(frozen=True)
class ShownExample:
    """An example with its context. ``token_ids``, ``tokens`` and ``values`` are as long as each other."""

    context: Context
    band: str
    max_value: float
    peak: int
    token_ids: NDArray[np.uint32]
    tokens: list[str]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Effect:
    """How far the feature's direction raises, or lowers, the logit of one token."""

    token_id: int
    token: str
    value: float


@dataclass(frozen=True)
class Neighbour:
    """A feature whose decoder direction is close. ``label`` is the text that is shown for it, if it has one."""

    index: int
    cosine: float
    label: str | None


@dataclass(frozen=True)
class Evidence:
    """One feature in one run. Its lists are empty where it never fired."""

    run: Run
    activity: Activity
    tokens: Tokens
    histogram: Histogram
    top: list[Effect]
    bottom: list[Effect]
    neighbours: list[Neighbour]
    examples: list[ShownExample]

    @property
    def feature(self) -> Feature:
        return self.activity.feature

    @property
    def label(self) -> Label | None:
        return self.feature.label


def find_sae(slug: str) -> SAE:
    """The SAE with its model. A slug holds no NUL, which PostgreSQL would refuse to look up."""
    sae = SAE.objects.select_related("model").filter(slug=slug).first() if "\0" not in slug else None
    if sae is None:
        raise NotFound("There is no SAE of this name here.")
    return sae


def find_run(sae: SAE, pk: int | None = None) -> Run:
    """The run of ``sae`` with this key; without one, the newest."""
    runs = Run.objects.latest_first().filter(sae=sae)
    run = runs.filter(pk=pk).first() if pk is not None else runs.first()
    if run is None:
        raise NotFound("This SAE has no run yet." if pk is None else f"This SAE has no run {pk}.")
    return run


def newest_runs() -> dict[int, Run]:
    """The newest run of every SAE that has one, by the SAE's key: one query."""
    newest = Run.objects.filter(sae=OuterRef("sae")).order_by("-created_at", "-pk").values("pk")[:1]
    return {run.sae_id: run for run in Run.objects.filter(pk=Subquery(newest))}


def evidence_of(run: Run, index: int) -> Evidence:
    """The feature's activity, its examples' contexts and its neighbours' labels: three queries, whatever it holds."""
    rows = Activity.objects.select_related("feature__label__author")
    activity = rows.filter(run=run, index=index).first()
    if activity is None:
        raise NotFound(f"This SAE has no feature {index}: they are numbered from 0 to {run.sae.d_sae - 1}.")
    tokens = tokens_of(run.sae.model_id)
    top, bottom = (_effects(ranked, tokens) for ranked in unpack_ranked(bytes(activity.feature.logits), 2))
    (near,) = unpack_ranked(bytes(activity.feature.neighbours))
    return Evidence(
        run=run,
        activity=activity,
        tokens=tokens,
        histogram=unpack_histogram(bytes(activity.histogram)),
        top=top,
        bottom=bottom,
        neighbours=_neighbours(run, near),
        examples=shown_examples(run, list(unpack_examples(bytes(activity.examples))), tokens),
    )


def shown_examples(run: Run, examples: Sequence[Example], tokens: Tokens) -> list[ShownExample]:
    """``examples`` in their order, each with its context: one query."""
    numbers = {example.context for example in examples}
    rows = Context.objects.filter(run=run, number__in=numbers).defer("text", "features")
    contexts = {context.number: context for context in rows}
    return [_shown(example, contexts[example.context], tokens) for example in examples]


def _shown(example: Example, context: Context, tokens: Tokens) -> ShownExample:
    ids = unpack_ids(bytes(context.token_ids))
    return ShownExample(
        context=context,
        band=BANDS[example.band],
        max_value=example.max_value,
        peak=example.peak,
        token_ids=ids,
        tokens=tokens.texts(ids),
        values=example.dense(len(ids)),
    )


def _effects(ranked: Ranked, tokens: Tokens) -> list[Effect]:
    return [Effect(int(i), tokens.text_of(int(i)), float(v)) for i, v in zip(ranked.ids, ranked.values, strict=True)]


def _neighbours(run: Run, near: Ranked) -> list[Neighbour]:
    indexes = [int(i) for i in near.ids]
    labels = dict(
        Feature.objects.filter(sae_id=run.sae_id, index__in=indexes, label__isnull=False).values_list(
            "index", "label__text"
        )
    )
    return [Neighbour(i, float(v), labels.get(i)) for i, v in zip(indexes, near.values, strict=True)]
