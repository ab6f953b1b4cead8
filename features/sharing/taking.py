"""From the database to the form of features.sharing.shapes: what a page shows now, whole, and where it came from.

Each builder returns a ``Taken`` and reads what its page reads, through the same functions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from features import comparing, evidence
from features.columns import columns_of
from features.evidence import Related, ShownExample
from features.knowledge import naming, rules
from features.knowledge.collecting import find_collection
from features.knowledge.exporting import figures_of
from features.knowledge.people import people_of
from features.models import SAE, Activity, Collection, CollectionItem, Feature, Kind, Label, Run
from features.plots.bars import PER_DECADE
from features.sharing import shapes
from features.sharing.canonical import LARGEST
from features.sharing.shapes import MAX_ITEMS, float32s
from features.store.histogram import unpack_histogram
from features.store.ranked import Ranked
from features.vocabulary import Tokens, tokens_of

ELSEWHERE = 8


@dataclass(frozen=True)
class Taken:
    """What is to be frozen. ``subject`` names what it is of, over time; ``open``: everybody signed in could see it."""

    kind: Kind
    subject: str
    title: str
    sources: list[dict[str, Any]]
    content: dict[str, Any]
    open: bool = True

    def as_json(self) -> dict[str, Any]:
        return {
            "format": shapes.FORMAT,
            "version": shapes.VERSION,
            "kind": self.kind.value,
            "title": self.title,
            "sources": self.sources,
            "content": self.content,
        }


Builder = Callable[[Mapping[str, Any], Any], Taken]
"""Takes what names the thing (sae, index, run, ...) and who asks. Raises NotFound and Refused."""

BUILDERS: dict[str, Builder] = {}
"""By kind. The room of jobs adds its own, for texts that were tried."""


def take(kind: str, named: Mapping[str, Any], user: Any) -> Taken:
    if kind not in BUILDERS:
        raise rules.Refused(f"There is nothing of the kind “{kind[:40]}” to freeze: name one of {', '.join(BUILDERS)}.")
    return BUILDERS[kind](named, user)


def take_feature(named: Mapping[str, Any], user: Any) -> Taken:
    sae, run = evidence.find_sae_and_run(_text(named, "sae"), named_number(named, "run", optional=True))
    index = named_number(named, "index")
    activity = evidence.find_activity(run, index) if run else None
    feature = activity.feature if activity else evidence.find_feature(sae, index)
    called = f": {feature.label.text}" if feature.label else ""
    return Taken(
        Kind.FEATURE,
        f"feature {sae.slug}/{index} run {run.pk if run else '-'}",
        title_of(f"Feature {index} of {sae.name}{called}"),
        [source(sae, run)],
        _feature(feature, run, activity, user),
    )


def take_comparison(named: Mapping[str, Any], user: Any) -> Taken:
    """``a`` and ``b``, each ``sae/index``."""
    a, b = (naming.names_in(_text(named, side))[0] for side in ("a", "b"))
    sides = comparing.sides(*comparing.find_pair(a, b))
    alike = comparing.likeness(*sides)
    return Taken(
        Kind.COMPARISON,
        f"comparison {sides[0].name} {sides[1].name}",
        title_of(f"{sides[0].name} beside {sides[1].name}"),
        [source(side.feature.sae, side.run) for side in sides],
        {
            "cosine": _measure(alike.cosine),
            "jaccard": _measure(alike.jaccard),
            "raised": alike.raised,
            "lowered": alike.lowered,
            "contexts": alike.contexts,
            "features": [_feature(side.feature, side.run, side.activity, user) for side in sides],
        },
    )


def take_run(named: Mapping[str, Any], user: Any) -> Taken:
    number = named_number(named, "run")
    run = Run.objects.latest_first().filter(pk=number).first()
    if run is None:
        raise evidence.NotFound(f"There is no run {number} here.")
    quality = {"densities": _densities(run), "n_dead": run.n_dead, "work": plain(run.work)}
    return Taken(
        Kind.RUN,
        f"run {run.pk}",
        title_of(f"Quality of run {run.pk} of {run.sae.name}"),
        [source(run.sae, run)],
        quality,
    )


def take_collection(named: Mapping[str, Any], user: Any) -> Taken:
    collection = find_collection(_text(named, "collection"), user)
    items = list(_items(collection)[: MAX_ITEMS + 1])
    if len(items) > MAX_ITEMS:
        raise rules.Refused(f"A snapshot holds {MAX_ITEMS:,} features of a collection; this one has more.")
    runs = evidence.newest_runs()
    saes = list({item.feature.sae_id: item.feature.sae for item in items}.values())
    places = {sae.pk: place for place, sae in enumerate(saes)}
    figures = figures_of(items, runs)
    return Taken(
        Kind.COLLECTION,
        f"collection {collection.slug}",
        title_of(f"Collection {collection.name}"),
        [source(sae, runs.get(sae.pk)) for sae in saes],
        {
            "name": collection.name,
            "description": collection.description,
            "owner": collection.owner.get_username() if collection.owner else "",
            "items": [_item(item, places, figures.get(item.feature_id)) for item in items],
        },
        open=collection.shared,
    )


BUILDERS |= {
    Kind.FEATURE.value: take_feature,
    Kind.COMPARISON.value: take_comparison,
    Kind.RUN.value: take_run,
    Kind.COLLECTION.value: take_collection,
}


def source(sae: SAE, run: Run | None) -> dict[str, Any]:
    model, card = _fields(shapes.Model, sae.model), _fields(shapes.Autoencoder, sae)
    return {"model": model, "sae": card, "run": _run(run) if run else None}


def label_of(label: Label | None) -> dict[str, Any] | None:
    if label is None:
        return None
    found = _fields(shapes.Label, label, but=("author_name",))
    author = label.author.get_username() if label.author else label.author_name
    return found | {"author_name": author}


def token_texts(tokens: Tokens, ids: Iterable[int]) -> dict[str, Any]:
    """The tokens of these ids, as shapes.Tokens keeps them."""
    named = sorted(set(ids))
    whole = {i: tokens.whole(i) for i in named}
    return {
        "texts": {str(i): text for i, text in whole.items() if text is not None},
        "bytes": {str(i): tokens.bytes_of(i).hex() for i, text in whole.items() if text is None},
        "special": [i for i in named if i in tokens.special],
        "joiner": tokens.joiner,
    }


def plain(record: Any) -> Any:
    """A JSON record of the database, with whole numbers that JavaScript would round written as text."""
    if isinstance(record, dict):
        return {str(key): plain(value) for key, value in record.items()}
    if isinstance(record, list | tuple):
        return [plain(value) for value in record]
    return str(record) if isinstance(record, int) and not -LARGEST <= record <= LARGEST else record


def _fields(shape: type[shapes.Shape], row: Any, but: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of ``shape`` that ``row`` has under the same names."""
    return {name: plain(getattr(row, name)) for name in shape.model_fields if name not in but}


def _run(run: Run) -> dict[str, Any]:
    own = {
        "number": run.pk,
        "origin": run.get_origin_display(),
        "made_at": run.created_at.isoformat().replace("+00:00", "Z"),
        "corpus": _fields(shapes.Corpus, run.corpus),
    }
    return _fields(shapes.Run, run, but=list(own)) | own


def _feature(feature: Feature, run: Run | None, activity: Activity | None, user: Any) -> dict[str, Any]:
    tokens = tokens_of(feature.sae.model)
    relatives = evidence.relatives_of(feature, activity, elsewhere=ELSEWHERE)
    positive, negative = evidence.logit_effects(feature)
    shown = evidence.examples_of(run, activity) if run and activity else None
    examples = [*shown.firing, *shown.near_misses, *shown.silent] if shown else []
    named = {int(i) for one in examples for i in one.token_ids} | {
        i for r in (positive, negative) for i, _ in r.pairs()
    }
    return {
        "index": feature.index,
        "label": label_of(feature.label),
        "tags": people_of(feature, user).tags,
        "decoder_norm": feature.decoder_norm,
        "encoder_decoder_cosine": feature.encoder_decoder_cosine,
        "positive": _effects(positive),
        "negative": _effects(negative),
        "decoder": _near(relatives.decoder),
        "encoder": _near(relatives.encoder),
        "elsewhere": [{"sae": f.sae.name, "site": f.sae.site, "index": f.index} for f in relatives.elsewhere],
        "activity": _activity(activity, relatives.partners, examples) if activity else None,
        "tokens": token_texts(tokens, named),
    }


def _activity(activity: Activity, partners: list[Related], examples: list[ShownExample]) -> dict[str, Any]:
    histogram = unpack_histogram(bytes(activity.histogram))
    own = {
        "histogram": {"edges": float32s(histogram.edges), "counts": histogram.counts.tolist()},
        "partners": _near(partners),
        "experts": [
            {"number": e.number, "share": _short(e.share), "lift": _short(e.lift)}
            for e in evidence.experts_of(activity)
        ],
        "examples": [_example(one) for one in examples],
    }
    return _fields(shapes.Activity, activity, but=list(own)) | own


def _example(shown: ShownExample) -> dict[str, Any]:
    example, context = shown.example, shown.context
    return {
        "band": example.band,
        "number": context.number,
        "offset": context.offset,
        "document_id": context.document_id,
        "document_source": context.document_source,
        "token_ids": shown.token_ids.tolist(),
        "positions": [int(p) for p in example.positions],
        "values": float32s(example.values),
    }


def _effects(ranked: Ranked) -> list[dict[str, Any]]:
    return [{"id": i, "value": _short(value)} for i, value in ranked.pairs()]


def _near(related: list[Related]) -> list[dict[str, Any]]:
    return [{"index": r.feature.index, "value": _short(r.value), "label": label_of(r.feature.label)} for r in related]


def _short(value: float) -> float:
    """A float32 with the fewest digits that give it back."""
    return float(str(np.float32(value)))


def _measure(measure: comparing.Measure | None) -> dict[str, Any] | None:
    return {"value": measure.value, "below": measure.below} if measure else None


def _densities(run: Run) -> dict[str, Any] | None:
    density = columns_of(run).density
    alive = density[density > 0]
    if not len(alive):
        return None
    bins = np.floor(np.log10(alive) * PER_DECADE).astype(int)
    return {"first": int(bins.min()), "counts": np.bincount(bins - bins.min()).tolist()}


def _items(collection: Collection) -> Any:
    items = collection.items.select_related("feature__sae__model", "feature__label__author", "added_by")
    items = items.defer("feature__logits", "feature__neighbours").prefetch_related("feature__taggings__tag")
    return items.order_by("position", "pk")


def _item(item: CollectionItem, places: Mapping[int, int], figures: Activity | None) -> dict[str, Any]:
    return {
        "source": places[item.feature.sae_id],
        "index": item.feature.index,
        "label": label_of(item.feature.label),
        "tags": sorted(tagging.tag.name for tagging in item.feature.taggings.all()),
        "note": item.note,
        "added_by": item.added_by.get_username() if item.added_by else "",
        "density": figures.density if figures else None,
        "max_activation": figures.max_activation if figures else None,
    }


def title_of(text: str) -> str:
    """``text`` on one line, cut where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:299]}…"


def _text(named: Mapping[str, Any], name: str) -> str:
    value = named.get(name)
    if not value:
        raise rules.Refused(f"Say which: {name} is missing.")
    return str(value)


def named_number(named: Mapping[str, Any], name: str, *, optional: bool = False) -> Any:
    """A whole number that names something. Raises Refused; None if it is ``optional`` and not there."""
    value = named.get(name)
    if optional and value in (None, ""):
        return None
    text = str("" if value is None else value)
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise rules.Refused(f"Say which: {name} is a number." if text else f"Say which: {name} is missing.")
    return int(text)
