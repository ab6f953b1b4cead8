"""Two features side by side, and what they have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

import numpy as np
from django.db.models import OuterRef, Q, Subquery
from numpy.typing import NDArray

from features.evidence import NotFound, ShownExample, logit_effects, with_ids
from features.knowledge.naming import Name
from features.models import SAE, Activity, Context, Feature, Run
from features.passages import alone
from features.plots.bars import BarChart, activation_chart, aligned
from features.selectors import Effect, ReadableExample, meters, readable
from features.store.examples import Example, unpack_examples
from features.store.histogram import unpack_histogram
from features.store.ranked import Ranked, unpack_ranked
from features.vectors import vector_of
from features.vocabulary import Tokens, tokens_of

EXAMPLES = 5
Texts = dict[tuple[int, int], tuple[Context, NDArray[np.uint32]]]
"""Contexts with the ids of their tokens, by run and number."""


@dataclass(frozen=True)
class Side:
    """A feature, and what it did in the newest run of its SAE, if there is one."""

    feature: Feature
    run: Run | None
    activity: Activity | None
    chart: BarChart | None
    positive: list[Effect]
    negative: list[Effect]
    examples: list[ReadableExample]

    @property
    def name(self) -> str:
        return f"{self.feature.sae.slug}/{self.feature.index}"


@dataclass(frozen=True)
class Measure:
    """A number of two features; where it is not known exactly, ``below`` says that it is less than ``value``."""

    value: float
    below: bool = False


@dataclass(frozen=True)
class Likeness:
    """None is not known. ``raised`` and ``lowered``: tokens in both lists of logit effects; None for two models.

    ``contexts``: how many contexts are examples of both; None unless both were read in one run.
    """

    cosine: Measure | None
    jaccard: Measure | None
    raised: list[str] | None
    lowered: list[str] | None
    contexts: int | None


def find_pair(a: Name, b: Name) -> tuple[Feature, Feature]:
    """The features of these names, with SAE, model and label: one query. NotFound for one that is not there."""
    named = [Q(sae__slug=slug, index=index) for slug, index in (a, b)]
    rows = Feature.objects.filter(reduce(or_, named)).select_related("sae__model", "label__author")
    found = {(feature.sae.slug, feature.index): feature for feature in rows}
    for slug, index in (a, b):
        if (slug, index) not in found:
            raise NotFound(f"There is no feature {slug}/{index} here.")
    return found[a], found[b]


def sides(a: Feature, b: Feature) -> tuple[Side, Side]:
    """Both features with what they did: three queries."""
    runs = newest_runs({a.sae_id, b.sae_id})
    activities = {row.feature_id: row for row in Activity.objects.of_features([a, b], runs)}
    pairs = [(runs.get(f.sae_id), activities.get(f.pk)) for f in (a, b)]
    histograms = [unpack_histogram(bytes(activity.histogram if activity else b"")) for _, activity in pairs]
    charts = [activation_chart(histogram) for histogram in aligned(*histograms)]
    texts = _contexts(pairs)
    made = [
        _side(feature, run, activity, chart, texts)
        for feature, (run, activity), chart in zip((a, b), pairs, charts, strict=True)
    ]
    return made[0], made[1]


def newest_runs(saes: set[int]) -> dict[int, Run]:
    """The newest run of each of ``saes`` that has one, by the SAE's key: one query."""
    newest = Run.objects.filter(sae=OuterRef("pk")).order_by("-created_at", "-pk").values("pk")[:1]
    chosen = SAE.objects.filter(pk__in=saes).values(newest=Subquery(newest))
    return {run.sae_id: run for run in Run.objects.filter(pk__in=chosen).select_related("corpus", "sae__model")}


def _contexts(pairs: Sequence[tuple[Run | None, Activity | None]]) -> Texts:
    """The contexts of the examples that are shown: one query, or none."""
    named = [
        Q(run=run, number__among=[example.context for example in _strongest(activity)])
        for run, activity in pairs
        if run and activity
    ]
    if not named:
        return {}
    rows = Context.objects.filter(reduce(or_, named)).defer("features")
    return {(row.run_id, row.number): (row, ids) for row, ids in with_ids(rows)}


def _strongest(activity: Activity) -> list[Example]:
    return [example for example in unpack_examples(bytes(activity.examples)) if example.band == 0][:EXAMPLES]


def _side(
    feature: Feature,
    run: Run | None,
    activity: Activity | None,
    chart: BarChart | None,
    texts: Texts,
) -> Side:
    tokens = tokens_of(feature.sae.model)
    positive, negative = meters(logit_effects(feature), tokens)
    examples = []
    if run and activity:
        shown = [ShownExample(example, *texts[run.pk, example.context]) for example in _strongest(activity)]
        examples = [readable(one, tokens, activity.max_activation) for one in shown]
    return Side(feature, run, activity, chart, positive, negative, examples)


def likeness(a: Side, b: Side) -> Likeness:
    """No query; the vectors are read from the storage."""
    same_model = a.feature.sae.model_id == b.feature.sae.model_id
    same_run = a.run is not None and a.run == b.run
    tokens = tokens_of(a.feature.sae.model)
    effects = list(zip(logit_effects(a.feature), logit_effects(b.feature), strict=True)) if same_model else []
    raised, lowered = (_shared(*pair, tokens) for pair in effects) if effects else (None, None)
    return Likeness(
        cosine=_cosine(a.feature, b.feature) if same_model else None,
        jaccard=_jaccard(a, b) if same_run else None,
        raised=raised,
        lowered=lowered,
        contexts=_contexts_of_both(a, b) if same_run else None,
    )


def _shared(a: Ranked, b: Ranked, tokens: Tokens) -> list[str]:
    """Tokens of both lists, in the order of the first."""
    others = set(b.ids.tolist())
    return [alone(tokens, [i]) for i in a.ids.tolist() if i in others]


def _cosine(a: Feature, b: Feature) -> Measure | None:
    """Of the decoder rows: from the rows themselves where they are kept, else from the lists of neighbours."""
    try:
        rows = [vector_of(feature.sae, feature.index).astype(np.float64) for feature in (a, b)]
    except NotFound:
        return _listed(a, b, *(unpack_ranked(bytes(f.neighbours), 2)[0] for f in (a, b))) if a.sae == b.sae else None
    if len(rows[0]) != len(rows[1]):
        return None
    size = float(np.linalg.norm(rows[0]) * np.linalg.norm(rows[1]))
    return Measure(float(rows[0] @ rows[1]) / size) if size else None


def _jaccard(a: Side, b: Side) -> Measure | None:
    """Of the tokens on which either fires, the share on which both do; as the lists of partners know it."""
    if not a.activity or not b.activity:
        return None
    partners = [unpack_ranked(bytes(activity.partners))[0] for activity in (a.activity, b.activity)]
    return _listed(a.feature, b.feature, *partners)


def _listed(a: Feature, b: Feature, near_a: Ranked, near_b: Ranked) -> Measure | None:
    """What the list of one says of the other. Where neither names it, it is below the last of both lists."""
    for other, near in ((b, near_a), (a, near_b)):
        for index, value in near.pairs():
            if index == other.index:
                return Measure(value)
    if a == b or not len(near_a.values) or not len(near_b.values):
        return None
    return Measure(float(min(near_a.values[-1], near_b.values[-1])), below=True)


def _contexts_of_both(a: Side, b: Side) -> int:
    numbers = [
        {example.context for example in unpack_examples(bytes(side.activity.examples)) if example.fires}
        for side in (a, b)
        if side.activity
    ]
    return len(numbers[0] & numbers[1]) if len(numbers) == 2 else 0
