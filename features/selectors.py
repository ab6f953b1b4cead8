"""What pages read, gathered so that a page costs the same number of queries however much it shows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.http import Http404
from numpy.typing import NDArray

from features.evidence import newest_runs
from features.forms import FeatureFilter
from features.models import SAE, Activity, Context, Feature, LanguageModel, Run
from features.models.activity import ActivityQuerySet, ContextQuerySet
from features.passages import Passage, alone, excerpt
from features.plots.bars import Sparkline, sparkline
from features.store.contexts import unpack_ids
from features.store.examples import BANDS, Example, unpack_examples
from features.store.histogram import unpack_histogram
from features.store.ranked import Ranked, unpack_ranked
from features.vocabulary import Tokens, tokens_of

PEAKS = 8
"""How many top examples the table takes a feature's top tokens from."""


def run_of(sae: SAE, asked: str) -> Run | None:
    """The run that was asked for, else the newest; None if the SAE has none. Another SAE's run is not found."""
    runs = sae.runs.latest_first()
    if not asked:
        return runs.first()
    run = runs.filter(pk=int(asked)).first() if asked.isdecimal() and len(asked) < 16 else None
    if run is None:
        raise Http404(f"{sae} has no run {asked[:20]}.")
    return run


@dataclass(frozen=True)
class Placed:
    """An SAE and its newest run."""

    sae: SAE
    run: Run | None


@dataclass(frozen=True)
class Shelf:
    """A model and its SAEs as a grid: per layer, one list of SAEs per hook."""

    model: LanguageModel
    hooks: list[str]
    layers: list[tuple[int, list[list[Placed]]]]


def shelves() -> list[Shelf]:
    """Every model that has SAEs, by name."""
    runs = newest_runs()
    by_model: dict[LanguageModel, list[Placed]] = {}
    for sae in SAE.objects.for_listing():
        by_model.setdefault(sae.model, []).append(Placed(sae, runs.get(sae.pk)))
    return [_shelf(model, placed) for model, placed in by_model.items()]


def _shelf(model: LanguageModel, placed: Sequence[Placed]) -> Shelf:
    hooks = sorted({p.sae.hook for p in placed})
    layers = [
        (layer, [[p for p in placed if (p.sae.layer, p.sae.hook) == (layer, hook)] for hook in hooks])
        for layer in sorted({p.sae.layer for p in placed})
    ]
    return Shelf(model, hooks, layers)


def table_of(run: Run) -> ActivityQuerySet:
    """What the rows of a table need, and no more bytes than that."""
    rows = Activity.objects.filter(run=run).for_table()
    return rows.defer("feature__logits", "feature__neighbours")


def filtered(run: Run, form: FeatureFilter) -> ActivityQuerySet:
    """The run's activities that the form's valid fields leave; call after ``form.is_valid()``."""
    found = table_of(run)
    found = found.density_between(form.share("density_min"), form.share("density_max"))
    state, text = form.cleaned_data.get("state"), form.cleaned_data.get("q")
    if state == "dead":
        found = found.filter(density=0)
    elif state in {"alive", "dense"}:
        found = found.filter(density__gt=0.01 if state == "dense" else 0)
    return found.matching(run, text) if text else found


@dataclass(frozen=True)
class Row:
    """One line of the feature table."""

    activity: Activity
    sparkline: Sparkline
    top_tokens: list[str]
    passage: Passage | None


def rows(run: Run, activities: Sequence[Activity]) -> list[Row]:
    tokens = tokens_of(run.sae.model_id)
    tops = [[e for e in unpack_examples(bytes(a.examples)) if e.band == 0][:PEAKS] for a in activities]
    texts = token_ids_of(run, (e.context for top in tops for e in top))
    return [_row(activity, top, texts, tokens) for activity, top in zip(activities, tops, strict=True)]


def _row(activity: Activity, top: Sequence[Example], texts: dict[int, NDArray[np.uint32]], tokens: Tokens) -> Row:
    peaks = dict.fromkeys(int(texts[e.context][e.peak]) for e in top if e.context in texts)
    first = next((e for e in top if e.context in texts), None)
    return Row(
        activity,
        sparkline(unpack_histogram(bytes(activity.histogram))),
        list(dict.fromkeys(alone(tokens, [i]) for i in peaks))[:5],
        excerpt(tokens, texts[first.context], first, activity.max_activation, (10, 5)) if first else None,
    )


def token_ids_of(run: Run, numbers: Iterable[int]) -> dict[int, NDArray[np.uint32]]:
    found = Context.objects.filter(run=run, number__in=set(numbers)).values_list("number", "token_ids")
    return {number: unpack_ids(bytes(blob)) for number, blob in found}


@dataclass(frozen=True)
class Shown:
    """An example with its context, ready to be read."""

    context: Context
    passage: Passage
    value: float


@dataclass(frozen=True)
class Band:
    name: str
    examples: list[Shown]


def bands(run: Run, activity: Activity) -> list[Band]:
    """The feature's examples by band, strongest band first, without empty bands."""
    tokens = tokens_of(run.sae.model_id)
    examples = list(unpack_examples(bytes(activity.examples)))
    contexts = {c.number: c for c in _contexts(run, (e.context for e in examples))}
    made = [Band(name, []) for name in BANDS]
    for example in examples:
        if context := contexts.get(example.context):
            made[example.band].examples.append(shown(tokens, context, example, activity.max_activation))
    return [band for band in made if band.examples]


def shown(tokens: Tokens, context: Context, example: Example, maximum: float) -> Shown:
    passage = excerpt(tokens, unpack_ids(bytes(context.token_ids)), example, maximum)
    return Shown(context, passage, example.max_value)


def example_in(run: Run, activity: Activity, number: int) -> tuple[Context, Example]:
    """The example of ``activity`` in context ``number``; 404 unless it is one of them."""
    example = next((e for e in unpack_examples(bytes(activity.examples)) if e.context == number), None)
    context = _contexts(run, [number]).first()
    if example is None or context is None:
        raise Http404(f"Context {number} is not among the examples of feature {activity.index}.")
    return context, example


def _contexts(run: Run, numbers: Iterable[int]) -> ContextQuerySet:
    return Context.objects.filter(run=run, number__in=set(numbers)).defer("text", "features")


@dataclass(frozen=True)
class Effect:
    """A token, what the feature adds to its logit, and that in percent of the largest in sight."""

    token: str
    id: int
    value: float
    width: float


def logit_effects(feature: Feature) -> list[list[Effect]]:
    """The tokens it makes most likely, and those it makes least likely, furthest first."""
    tokens = tokens_of(feature.sae.model_id)
    lists = unpack_ranked(bytes(feature.logits), 2)
    largest = max((float(np.abs(r.values).max()) for r in lists if len(r.values)), default=0.0) or 1.0
    return [[Effect(alone(tokens, [i]), i, v, round(100 * abs(v) / largest, 1)) for i, v in _items(r)] for r in lists]


@dataclass(frozen=True)
class Neighbour:
    feature: Feature
    cosine: float


def neighbours(feature: Feature) -> list[Neighbour]:
    """The features with the nearest decoder directions, nearest first."""
    cosines = dict(_items(unpack_ranked(bytes(feature.neighbours))[0]))
    named = Feature.objects.filter(sae=feature.sae, index__in=cosines).select_related("label", "label__author")
    by_index = {f.index: f for f in named.defer("logits", "neighbours")}
    return [Neighbour(by_index[i], cosine) for i, cosine in cosines.items() if i in by_index]


def _items(ranked: Ranked) -> Iterable[tuple[int, float]]:
    return ((int(i), float(v)) for i, v in zip(ranked.ids, ranked.values, strict=True))


def labelled(text: str, limit: int = 50) -> list[Feature]:
    """Features whose shown label holds ``text``, over all SAEs."""
    found: Any = Feature.objects.filter(label__text__icontains=text).select_related("label", "label__author", "sae")
    return list(found.defer("logits", "neighbours").order_by("sae__slug", "index")[:limit])
