"""What pages show, made ready for templates, so that a page costs the same number of queries however much it shows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from django.db.models import OuterRef, Q, Subquery
from django.urls import reverse

from features.evidence import ShownExample, newest_runs
from features.kept import Kept
from features.models import SAE, Activity, Context, Feature, LanguageModel, Run
from features.passages import Passage, alone, excerpt, whole
from features.plots.bars import Sparkline, sparkline
from features.store.contexts import token_at, unpack_tokens
from features.store.examples import BANDS, NEAR_MISS, SILENT, Example, unpack_top
from features.store.histogram import unpack_histogram
from features.store.ranked import Ranked
from features.vocabulary import Tokens, tokens_of

PEAKS = 5
"""How many top examples a line takes a feature's top tokens from: each is a context to be read."""


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
    """One line of a table: a feature, and what it did in ``run``; without a run, what is known of it alone.

    ``address`` is that of its page, without a query.
    """

    feature: Feature
    address: str
    run: Run | None
    activity: Activity | None
    sparkline: Sparkline
    top_tokens: list[str]
    passage: Passage | None


@dataclass(frozen=True)
class _Seen:
    """What a line shows of a feature's activity in a run, which never changes."""

    sparkline: Sparkline
    top_tokens: list[str]
    passage: Passage | None

    @property
    def size(self) -> int:
        """About how many bytes it takes."""
        return 1000 + 250 * (len(self.passage.pieces) if self.passage else 0)


_kept: Kept[_Seen] = Kept(32 << 20)


def rows(run: Run, activities: Sequence[Activity]) -> list[Row]:
    """Features of one run, in their order: one query, for the contexts of those that this process has not
    shown lately.
    """
    return _rows([(run, activity) for activity in activities])


def lines(features: Sequence[Feature]) -> list[Row]:
    """Features of any SAEs, in their order, each with what it did in its SAE's newest run: four queries at most."""
    runs = _runs_of({feature.sae_id for feature in features})
    found = Activity.objects.of_features(features, runs)
    activities = {activity.feature_id: activity for activity in found.for_table()}
    made = iter(_rows([(runs[a.feature.sae_id], activities[f.pk]) for f in features if (a := activities.get(f.pk))]))
    bare = _with_labels([feature for feature in features if feature.pk not in activities])
    return [next(made) if feature.pk in activities else _bare(bare[feature.pk], runs) for feature in features]


def _runs_of(saes: Collection[int]) -> dict[int, Run]:
    """The newest run of each of ``saes`` that has one, by the SAE's key: one query."""
    newest = Run.objects.filter(sae=OuterRef("pk")).order_by("-created_at", "-pk").values("pk")[:1]
    chosen = SAE.objects.filter(pk__in=saes).values_list(Subquery(newest))
    return {run.sae_id: run for run in Run.objects.filter(pk__in=chosen).select_related("sae__model")}


def _with_labels(features: Sequence[Feature]) -> dict[int, Feature]:
    """Features by key, with SAE and label: one query, or none for none."""
    if not features:
        return {}
    found = Feature.objects.filter(pk__in=[f.pk for f in features]).select_related("sae__model", "label__author")
    return {row.pk: row for row in found.defer("logits", "neighbours")}


def _bare(feature: Feature, runs: dict[int, Run]) -> Row:
    return Row(feature, feature.get_absolute_url(), runs.get(feature.sae_id), None, Sparkline("", 0), [], None)


def _rows(shown: Sequence[tuple[Run, Activity]]) -> list[Row]:
    keys = [(run.pk, run.revision, run.created_at, activity.index) for run, activity in shown]
    seen = {key: one for key in keys if (one := _kept.find(key))}
    new = [(key, *pair) for key, pair in zip(keys, shown, strict=True) if key not in seen]
    made = _see([(run, activity) for _, run, activity in new])
    seen |= {key: _kept.keep(key, one, one.size) for (key, *_), one in zip(new, made, strict=True)}
    slugs = {run.pk: run.sae.slug for run, _ in shown}
    bases = {pk: reverse("features", args=[slug]) for pk, slug in slugs.items()}
    return [_row(*pair, seen[key], bases[pair[0].pk]) for key, pair in zip(keys, shown, strict=True)]


def _see(shown: Sequence[tuple[Run, Activity]]) -> list[_Seen]:
    """Only what a line shows is unpacked: the highest examples, their tokens at the peak, and the first as text."""
    tops = [unpack_top(bytes(activity.examples), PEAKS) for _, activity in shown]
    texts = _token_ids([(run, example.context) for (run, _), top in zip(shown, tops, strict=True) for example in top])
    return [_seen(*pair, top, texts) for pair, top in zip(shown, tops, strict=True)]


def _token_ids(wanted: Sequence[tuple[Run, int]]) -> dict[tuple[int, int], bytes]:
    """The packed tokens of contexts by run and number: one query for all."""
    if not wanted:
        return {}
    by_run: dict[int, set[int]] = {}
    for run, number in wanted:
        by_run.setdefault(run.pk, set()).add(number)
    named = reduce(or_, (Q(run=run, number__among=numbers) for run, numbers in by_run.items()))
    found = Context.objects.filter(named).values_list("run_id", "number", "token_ids")
    return {(run, number): bytes(packed) for run, number, packed in found}


def _seen(run: Run, activity: Activity, top: Sequence[Example], texts: Mapping[tuple[int, int], bytes]) -> _Seen:
    tokens = tokens_of(run.sae.model)
    ids = (token_at(texts[run.pk, example.context], example.peak) for example in top)
    peaks = list(dict.fromkeys(alone(tokens, [i]) for i in ids))
    passage = None
    if top:
        whole_text = unpack_tokens(texts[run.pk, top[0].context])
        passage = excerpt(tokens, whole_text, top[0], activity.max_activation, (10, 5))
    return _Seen(sparkline(unpack_histogram(bytes(activity.histogram))), peaks, passage)


def _row(run: Run, activity: Activity, seen: _Seen, base: str) -> Row:
    feature = activity.feature
    feature.sae = run.sae
    address = f"{base}{activity.index}/"
    return Row(feature, address, run, activity, seen.sparkline, seen.top_tokens, seen.passage)


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
