"""SAEs, runs and features as they are looked up, and what a feature's packed bytes say, joined to what it names.

Pages and the API read the same functions. Each says how many queries it costs.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.db.models import OuterRef, Subquery
from django.http import Http404
from numpy.typing import NDArray

from features.models import SAE, Activity, Context, Feature, Run
from features.store.contexts import unpack_ids
from features.store.examples import Example, unpack_examples
from features.store.ranked import Ranked, unpack_ranked


class NotFound(Http404):
    """What was asked for is not in this database. The message is one sentence."""


@dataclass(frozen=True)
class ShownExample:
    """An example with the context that it names."""

    example: Example
    context: Context

    @property
    def token_ids(self) -> NDArray[np.uint32]:
        return unpack_ids(bytes(self.context.token_ids))


@dataclass(frozen=True)
class Neighbour:
    """A feature whose decoder direction is close."""

    feature: Feature
    cosine: float


def find_sae(slug: str) -> SAE:
    """The SAE with its model. A slug holds no NUL, which PostgreSQL would refuse to look up."""
    sae = SAE.objects.select_related("model").filter(slug=slug).first() if "\0" not in slug else None
    if sae is None:
        raise NotFound("There is no SAE of this name here.")
    return sae


def newest_run(sae: SAE) -> Run | None:
    return Run.objects.latest_first().filter(sae=sae).first()


def find_run(sae: SAE, pk: int | None = None) -> Run:
    """The run of ``sae`` with this key; without one, the newest."""
    run = newest_run(sae) if pk is None else Run.objects.latest_first().filter(sae=sae, pk=pk).first()
    if run is None:
        raise NotFound("This SAE has no run yet." if pk is None else f"This SAE has no run {pk}.")
    return run


def newest_runs() -> dict[int, Run]:
    """The newest run of every SAE that has one, by the SAE's key: one query."""
    newest = Run.objects.filter(sae=OuterRef("sae")).order_by("-created_at", "-pk").values("pk")[:1]
    return {run.sae_id: run for run in Run.objects.filter(pk=Subquery(newest))}


def find_feature(sae: SAE, index: int) -> Feature:
    """A feature with its label: one query."""
    feature = Feature.objects.select_related("label__author").filter(sae=sae, index=index).first()
    if feature is None:
        raise _no_feature(sae, index)
    return feature


def find_activity(run: Run, index: int) -> Activity:
    """What a feature did in ``run``, with the feature and its label: one query."""
    activity = Activity.objects.select_related("feature__label__author").filter(run=run, index=index).first()
    if activity is None:
        raise _no_feature(run.sae, index)
    return activity


def _no_feature(sae: SAE, index: int) -> NotFound:
    return NotFound(f"This SAE has no feature {index}: they are numbered from 0 to {sae.d_sae - 1}.")


def logit_effects(feature: Feature) -> tuple[Ranked, Ranked]:
    """The token ids whose logits the feature raises most, and those it lowers most, furthest first."""
    top, bottom = unpack_ranked(bytes(feature.logits), 2)
    return top, bottom


def neighbours_of(feature: Feature) -> list[Neighbour]:
    """The features with the nearest decoder directions, nearest first, with their labels: one query."""
    (near,) = unpack_ranked(bytes(feature.neighbours))
    rows = Feature.objects.filter(sae=feature.sae_id, index__in=near.ids.tolist()).select_related("label__author")
    by_index = {row.index: row for row in rows.defer("logits", "neighbours")}
    return [Neighbour(by_index[index], cosine) for index, cosine in near.pairs()]


def examples_of(run: Run, activity: Activity) -> list[ShownExample]:
    """The feature's examples in the order in which they are shown, none where it never fired: one query."""
    (shown,) = with_contexts(run, [list(unpack_examples(bytes(activity.examples)))])
    return shown


def find_example(run: Run, activity: Activity, number: int) -> ShownExample:
    """The feature's example in context ``number``: one query."""
    found = [example for example in unpack_examples(bytes(activity.examples)) if example.context == number]
    if not found:
        raise NotFound(f"Context {number} is not among the examples of feature {activity.index}.")
    return with_contexts(run, [found])[0][0]


def with_contexts(run: Run, lists: Sequence[Sequence[Example]]) -> list[list[ShownExample]]:
    """Examples of one or more features, each with its context: one query for all."""
    numbers = {example.context for examples in lists for example in examples}
    rows = Context.objects.filter(run=run, number__in=numbers).defer("text", "features")
    contexts = {context.number: context for context in rows}
    return [[ShownExample(example, contexts[example.context]) for example in examples] for examples in lists]
