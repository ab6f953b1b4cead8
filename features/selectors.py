"""What pages show, made ready for templates, so that a page costs the same number of queries however much it shows."""

from collections.abc import Sequence
from dataclasses import dataclass

from features.evidence import ShownExample, newest_runs, with_contexts
from features.models import SAE, Activity, Context, Feature, LanguageModel, Run
from features.passages import Passage, alone, excerpt, whole
from features.plots.bars import Sparkline, sparkline
from features.store.examples import BANDS, NEAR_MISS, SILENT, unpack_examples
from features.store.histogram import unpack_histogram
from features.store.ranked import Ranked
from features.vocabulary import Tokens, tokens_of

PEAKS = 8
"""How many top examples the table takes a feature's top tokens from."""


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


def placed_on(model: LanguageModel) -> list[Placed]:
    """The SAEs of one model: two queries."""
    runs = newest_runs(model)
    saes = SAE.objects.filter(model=model).select_related("model").order_by("layer", "hook", "d_sae", "slug")
    return [Placed(sae, runs.get(sae.pk)) for sae in saes]


def _shelf(model: LanguageModel, placed: Sequence[Placed]) -> Shelf:
    hooks = sorted({p.sae.hook for p in placed})
    layers = [
        (layer, [[p for p in placed if (p.sae.layer, p.sae.hook) == (layer, hook)] for hook in hooks])
        for layer in sorted({p.sae.layer for p in placed})
    ]
    return Shelf(model, hooks, layers)


@dataclass(frozen=True)
class Row:
    """One line of the feature table."""

    activity: Activity
    sparkline: Sparkline
    top_tokens: list[str]
    passage: Passage | None


def rows(run: Run, activities: Sequence[Activity]) -> list[Row]:
    tokens = tokens_of(run.sae.model)
    tops = [[e for e in unpack_examples(bytes(a.examples)) if e.band == 0][:PEAKS] for a in activities]
    return [_row(a, top, tokens) for a, top in zip(activities, with_contexts(run, tops), strict=True)]


def _row(activity: Activity, top: Sequence[ShownExample], tokens: Tokens) -> Row:
    peaks = dict.fromkeys(alone(tokens, [shown.token_ids[shown.example.peak]]) for shown in top)
    passage = None
    if top:
        passage = excerpt(tokens, top[0].token_ids, top[0].example, activity.max_activation, (10, 5))
    return Row(activity, sparkline(unpack_histogram(bytes(activity.histogram))), list(peaks)[:5], passage)


@dataclass(frozen=True)
class ReadableExample:
    """A context as text with highlights. ``value`` is its maximum; of a near miss, ``near``, a pre-activation; of a
    silent context there is none.
    """

    context: Context
    passage: Passage
    value: float | None
    near: bool


def readable(shown: ShownExample, tokens: Tokens, maximum: float, *, in_full: bool = False) -> ReadableExample:
    cut = whole if in_full else excerpt
    passage = cut(tokens, shown.token_ids, shown.example, maximum)
    value = None if shown.example.band == SILENT else shown.example.max_value
    return ReadableExample(shown.context, passage, value, shown.example.band == NEAR_MISS)


@dataclass(frozen=True)
class Band:
    name: str
    examples: list[ReadableExample]


def bands(examples: Sequence[ShownExample], tokens: Tokens, maximum: float) -> list[Band]:
    """The examples in which a feature fires, by band, strongest band first, without empty bands."""
    made = [Band(name, []) for name in BANDS]
    for shown in examples:
        made[shown.example.band].examples.append(readable(shown, tokens, maximum))
    return [band for band in made if band.examples]


@dataclass(frozen=True)
class Effect:
    """A token, what the feature adds to its logit, and that in percent of the largest in sight."""

    token: str
    id: int
    value: float
    width: float


def meters(lists: Sequence[Ranked], tokens: Tokens) -> list[list[Effect]]:
    """Logit effects, each with the width of its bar."""
    largest = max((abs(value) for ranked in lists for _, value in ranked.pairs()), default=0.0) or 1.0
    return [
        [Effect(alone(tokens, [i]), i, value, round(100 * abs(value) / largest, 1)) for i, value in ranked.pairs()]
        for ranked in lists
    ]


def labelled(text: str, limit: int) -> list[Feature]:
    """Features whose shown label holds ``text``, over all SAEs."""
    found = Feature.objects.filter(label__text__icontains=text).select_related("label__author", "sae")
    return list(found.defer("logits", "neighbours").order_by("sae__slug", "index")[:limit])
