"""SAEs, runs and features as they are looked up, and what a feature's packed bytes say, joined to what it names.

Pages and the API read the same functions. Each says how many queries it costs.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models import OuterRef, Subquery
from django.http import Http404
from numpy.typing import NDArray

from features.models import SAE, Activity, Context, Feature, Label, LanguageModel, Run
from features.store.contexts import unpack_many_tokens
from features.store.examples import NEAR_MISS, SILENT, Example, unpack_examples
from features.store.ranked import Ranked, unpack_ranked


class NotFound(Http404):
    """What was asked for is not in this database. The message is one sentence."""


@dataclass(frozen=True)
class ShownExample:
    """An example with the context that it names, and the ids of that one's tokens."""

    example: Example
    context: Context
    token_ids: NDArray[np.uint32]


@dataclass(frozen=True)
class ShownExamples:
    """A feature's contexts: where it fires, where it comes close, and some of those where it stays silent."""

    firing: list[ShownExample]
    near_misses: list[ShownExample]
    silent: list[ShownExample]


@dataclass(frozen=True)
class Related:
    """Another feature, and how close it is: a cosine, or the share of tokens on which both fire."""

    feature: Feature
    value: float


@dataclass(frozen=True)
class Relatives:
    """A feature's neighbours by the directions of decoder and encoder, and those that fire on the same tokens;
    ``elsewhere``: those of other SAEs on the same model whose label says the same, with their SAE.
    """

    decoder: list[Related]
    encoder: list[Related]
    partners: list[Related]
    elsewhere: list[Feature]


@dataclass(frozen=True)
class Expert:
    """An expert that is chosen on ``share`` of a feature's firing tokens, ``lift`` times as often as on all tokens."""

    number: int
    share: float
    lift: float

    @property
    def usual(self) -> float:
        """The share of all tokens on which it is chosen."""
        return self.share / self.lift if self.lift else 0.0


def find_model(slug: str) -> LanguageModel:
    model = LanguageModel.objects.filter(slug=slug).first() if "\0" not in slug else None
    if model is None:
        raise NotFound("There is no model of this name here.")
    return model


def find_sae(slug: str) -> SAE:
    """The SAE with its model. A slug holds no NUL, which PostgreSQL would refuse to look up."""
    sae = SAE.objects.select_related("model").filter(slug=slug).first() if "\0" not in slug else None
    if sae is None:
        raise NotFound("There is no SAE of this name here.")
    return sae


def find_sae_and_run(slug: str, pk: int | None = None) -> tuple[SAE, Run | None]:
    """The SAE with its model, and its run with this key; without one the newest, if there is any.

    One query, and one more for an SAE without a run. Records that only the pages of a run and of an SAE show are read
    when they are asked for.
    """
    runs = Run.objects.latest_first().filter(sae__slug=slug) if "\0" not in slug else Run.objects.none()
    runs = runs.defer("work", "settings", "sae__training", "sae__model__hook_points", "corpus__generator")
    run = (runs if pk is None else runs.filter(pk=pk)).first()
    if run is not None:
        return run.sae, run
    sae = find_sae(slug)
    return sae, None if pk is None else find_run(sae, pk)


def newest_run(sae: SAE) -> Run | None:
    return Run.objects.latest_first().filter(sae=sae).first()


def find_run(sae: SAE, pk: int | None = None) -> Run:
    """The run of ``sae`` with this key; without one, the newest."""
    run = newest_run(sae) if pk is None else Run.objects.latest_first().filter(sae=sae, pk=pk).first()
    if run is None:
        raise NotFound("This SAE has no run yet." if pk is None else f"This SAE has no run {pk}.")
    return run


def newest_runs(model: LanguageModel | None = None) -> dict[int, Run]:
    """The newest run of every SAE, or every SAE of ``model``, that has one, by the SAE's key: one query."""
    newest = Run.objects.filter(sae=OuterRef("sae")).order_by("-created_at", "-pk").values("pk")[:1]
    found = Run.objects.filter(pk=Subquery(newest))
    return {run.sae_id: run for run in (found.filter(sae__model=model) if model else found)}


def find_feature(sae: SAE, index: int) -> Feature:
    """A feature with its label: one query."""
    feature = Feature.objects.select_related("label__author").filter(sae=sae, index=index).first()
    if feature is None:
        raise _no_feature(sae, index)
    feature.sae = sae
    return feature


def find_activity(run: Run, index: int) -> Activity:
    """What a feature did in ``run``, with the feature and its label: one query."""
    activity = Activity.objects.select_related("feature__label__author").filter(run=run, index=index).first()
    if activity is None:
        raise _no_feature(run.sae, index)
    activity.feature.sae = run.sae
    return activity


def _no_feature(sae: SAE, index: int) -> NotFound:
    return NotFound(f"This SAE has no feature {index}: they are numbered from 0 to {sae.d_sae - 1}.")


def logit_effects(feature: Feature) -> tuple[Ranked, Ranked]:
    """The token ids whose logits the feature raises most, and those it lowers most, furthest first."""
    top, bottom = unpack_ranked(bytes(feature.logits), 2)
    return top, bottom


def relatives_of(feature: Feature, activity: Activity | None, *, elsewhere: int = 0) -> Relatives:
    """Each list closest first, empty where it was not computed; features with their labels: one query for all.

    ``elsewhere``: how many features of other SAEs that bear the same label are looked for; needs the feature's SAE.
    """
    lists = unpack_ranked(bytes(feature.neighbours), 2)
    lists += unpack_ranked(bytes(activity.partners) if activity else b"")
    indexes = {index for near in lists for index, _ in near.pairs()}
    wanted = Feature.objects.filter(sae=feature.sae_id, index__among=indexes).values("pk")
    if elsewhere and feature.label:
        wanted = wanted.union(_of_same_label(feature, elsewhere), all=True)
    rows = Feature.objects.filter(pk__in=wanted).select_related("label__author", "sae").only(*_NAMED)
    by_index = {row.index: row for row in rows if row.sae_id == feature.sae_id}
    others = sorted((row for row in rows if row.sae_id != feature.sae_id), key=lambda row: (row.sae.layer, row.pk))
    decoder, encoder, partners = (
        [Related(by_index[i], value) for i, value in near.pairs() if i in by_index]  # an import may hold some alone
        for near in lists
    )
    return Relatives(decoder, encoder, partners, others)


_NAMED = (
    *("index", "sae__slug", "sae__name", "sae__layer", "sae__hook", "sae__hook_out", "sae__layer_out"),
    *("label__text", "label__source", "label__rule", "label__precision", "label__n_held_out", "label__method"),
    *("label__explainer", "label__author_name", "label__author__username"),
)
"""What a list says of a feature that it names."""


SAME_LABEL = 200
"""Labels of the same text that are looked at for features of other SAEs: thousands bear what a rule says most."""


def _of_same_label(feature: Feature, limit: int) -> Any:
    """Keys of features, as a query that may stand in a union: some databases cut no part of one."""
    text = feature.label.text if feature.label else ""
    labels = Label.objects.filter(text=text).values("pk")[:SAME_LABEL]
    found = Feature.objects.filter(label__in=labels, sae__model=feature.sae.model_id).exclude(sae=feature.sae_id)
    return Feature.objects.filter(pk__in=found.order_by("pk").values("pk")[:limit]).values("pk")


def experts_of(activity: Activity) -> list[Expert]:
    """The experts chosen when it fires, most telling first; empty for a dense model."""
    shares, lifts = unpack_ranked(bytes(activity.experts), 2)
    return [Expert(i, share, lift) for (i, share), (_, lift) in zip(shares.pairs(), lifts.pairs(), strict=True)]


def examples_of(run: Run, activity: Activity) -> ShownExamples:
    """The feature's contexts in the order in which they are shown, each once: one query."""
    (shown,) = with_contexts(run, [list(unpack_examples(bytes(activity.examples)))])
    near = [s for s in shown if s.example.band == NEAR_MISS]
    close = {s.example.context for s in near}
    silent = [s for s in shown if s.example.band == SILENT and s.example.context not in close]
    return ShownExamples([s for s in shown if s.example.fires], near, silent)


def find_example(run: Run, activity: Activity, number: int) -> ShownExample:
    """What the feature shows of context ``number``, whether it fires there or not: one query."""
    found = [example for example in unpack_examples(bytes(activity.examples)) if example.context == number]
    if not found:
        raise NotFound(f"Context {number} is not among the examples of feature {activity.index}.")
    return with_contexts(run, [found])[0][0]


def with_contexts(run: Run, lists: Sequence[Sequence[Example]]) -> list[list[ShownExample]]:
    """Examples of one or more features, each with its context: one query for all."""
    numbers = {example.context for examples in lists for example in examples}
    rows = Context.objects.filter(run=run, number__among=numbers).defer("features")
    contexts = {context.number: (context, ids) for context, ids in with_ids(rows)}
    return [[ShownExample(example, *contexts[example.context]) for example in examples] for examples in lists]


def with_ids(contexts: Iterable[Context]) -> list[tuple[Context, NDArray[np.uint32]]]:
    """Each with the ids of its tokens."""
    listed = list(contexts)
    return list(zip(listed, unpack_many_tokens([bytes(row.token_ids) for row in listed]), strict=True))
