"""A run in Neuronpedia's layout, as a stream of files: its features, activations and explanations, a batch at a time.

What those have no place for stands in ``featurescope.json`` and the folder beside it (``notes_out``).
"""

import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from django.db.models import F, Q

from features.evidence import ShownExample, with_contexts
from features.models import Activity, Label, Run
from features.store.examples import NEAR_MISS, unpack_examples
from features.store.histogram import Histogram, unpack_histogram
from features.store.ranked import Ranked, unpack_ranked
from features.vocabulary import Tokens, tokens_of
from jobs.bulk import storable
from jobs.transfer import notes_out
from jobs.transfer.layouts import NOTE

BATCH = 1024
AT_ONCE = 32  # features whose contexts are in memory at a time
BLOCK = 1 << 16
_LENS = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
Record = dict[str, Any]
Member = tuple[str, Iterator[bytes]]


@dataclass(frozen=True)
class Named:
    """How the export calls what it is about: a run that was imported keeps its names."""

    model: str
    source: str
    set_name: str

    @classmethod
    def of(cls, run: Run) -> "Named":
        known = run.provenance.get("imported", {}) if run.origin != Run.Origin.EXTRACTION else {}
        model, source = known.get("model"), known.get("source")
        if isinstance(model, str) and isinstance(source, str) and "-" in source:
            return cls(model, source, source.split("-", 1)[1])
        return cls(run.sae.model.slug, f"{run.sae.layer}-{run.sae.slug}", run.sae.slug)

    @property
    def folder(self) -> str:
        """Names of files: those that came from elsewhere may hold anything."""
        return "/".join(["v1", _path(self.model), _path(self.source)])

    def keys(self, index: int) -> Record:
        return {"modelId": self.model, "layer": self.source, "index": str(index)}


def files(run: Run, batch: int = BATCH) -> Iterator[Member]:
    """Names and contents, one after the other: a content is to be read before the next is asked for."""
    named, tokens = Named.of(run), tokens_of(run.sae.model)
    for name, record in _about(run, named).items():
        yield f"{named.folder}/{name}.jsonl", iter([_line(record)])
    yield f"{named.folder}/{NOTE}", iter([_line(notes_out.note(run, named.model, named.source))])
    own = f"{named.folder}/featurescope"
    yield f"{own}/tokens.jsonl.gz", packed(notes_out.token_records(tokens))
    for number, numbers in enumerate(notes_out.context_batches(run)):
        yield f"{own}/contexts-{number}.jsonl.gz", packed(notes_out.context_records(run, *numbers))
    indexes = run.activities.order_by("index").values_list("index", flat=True)
    for number, (first, last) in enumerate(stretches(indexes.iterator(chunk_size=10_000), batch)):
        rows, labels = run.activities.filter(index__range=(first, last)), labels_of(run, first, last)
        name = f"batch-{number}.jsonl.gz"
        yield f"{named.folder}/features/{name}", packed(feature_records(run, named, tokens, rows))
        yield f"{named.folder}/activations/{name}", packed(activation_records(run, named, tokens, rows))
        yield f"{named.folder}/explanations/{name}", packed(explanation_records(named, labels))
        yield f"{own}/features-{number}.jsonl.gz", packed(notes_out.feature_records(rows, labels))


def stretches(indexes: Iterable[int], batch: int) -> Iterator[tuple[int, int]]:
    """First and last of every ``batch`` indexes."""
    first, last, n = 0, 0, 0
    for index in indexes:
        first, last, n = (index if n == 0 else first), index, n + 1
        if n == batch:
            yield first, last
            n = 0
    if n:
        yield first, last


def packed(records: Iterable[Record]) -> Iterator[bytes]:
    """Lines of JSON as gzip; the same records give the same bytes."""
    pack, waiting, n = zlib.compressobj(6, wbits=31), [], 0
    for record in records:
        made = pack.compress(_line(record))
        if made:
            waiting.append(made)
            n += len(made)
        if n >= BLOCK:
            yield b"".join(waiting)
            waiting, n = [], 0
    yield b"".join([*waiting, pack.flush()])


def feature_records(run: Run, named: Named, tokens: Tokens, rows: Any) -> Iterator[Record]:
    for activity in rows.select_related("feature").order_by("index").iterator(chunk_size=256):
        feature = activity.feature
        top, bottom = unpack_ranked(bytes(feature.logits), 2)
        near = unpack_ranked(bytes(feature.neighbours), 2)[0]
        histogram = unpack_histogram(bytes(activity.histogram))
        yield named.keys(activity.index) | {
            "sourceSetName": named.set_name,
            "maxActApprox": activity.max_activation,
            "frac_nonzero": activity.density,
            "freq_hist_data_bar_heights": histogram.counts.tolist(),
            "freq_hist_data_bar_values": _centres(histogram),
            **_effects("pos", top, tokens),
            **_effects("neg", bottom, tokens),
            "topkCosSimIndices": near.ids.tolist(),
            "topkCosSimValues": near.values.tolist(),
            "hookName": _hook_name(run),
            "hasVector": False,
            "createdAt": run.created_at.isoformat(),
            **_EMPTY,
        }


_EMPTY: Record = {
    name: []
    for name in (
        "vector", "decoder_weights_dist", "logits_hist_data_bar_heights", "logits_hist_data_bar_values",
        "neuron_alignment_indices", "neuron_alignment_values", "neuron_alignment_l1", "correlated_neurons_indices",
        "correlated_neurons_pearson", "correlated_neurons_l1", "correlated_features_indices",
        "correlated_features_pearson", "correlated_features_l1",
    )
} | {"vectorLabel": None, "vectorDefaultSteerStrength": None, "creatorId": None}  # fmt: skip


def activation_records(run: Run, named: Named, tokens: Tokens, rows: Any) -> Iterator[Record]:
    """The examples in which features fire: Neuronpedia knows no near misses and no silent contexts."""
    wanted = rows.defer("partners", "experts").order_by("index").iterator(chunk_size=AT_ONCE)
    while chunk := [activity for _, activity in zip(range(AT_ONCE), wanted, strict=False)]:
        lists = [[e for e in unpack_examples(bytes(a.examples)) if e.fires] for a in chunk]
        for activity, shown in zip(chunk, with_contexts(run, lists), strict=True):
            limits = _limits(activity)
            for place, one in enumerate(shown):
                yield _activation(activity.index, place, one, named, tokens, limits)


def _activation(
    index: int, place: int, shown: ShownExample, named: Named, tokens: Tokens, limits: list[tuple[float, float, float]]
) -> Record:
    ids, example = shown.token_ids, shown.example
    values = example.dense(len(ids))
    low, high, contains = limits[example.band]
    return named.keys(index) | {
        "id": f"{index}-{place}",
        "tokens": tokens.texts(ids),
        "values": values.tolist(),
        "maxValue": example.max_value,
        "maxValueTokenIndex": example.peak,
        "minValue": float(values.min()),
        "dataIndex": shown.context.document_id,
        "dataSource": shown.context.document_source,
        "binMin": low,
        "binMax": high,
        "binContains": contains,
        "qualifyingTokenIndex": example.peak,
        "dfaValues": [],
        "dfaTargetIndex": None,
        "dfaMaxValue": None,
        "lossValues": [],
        "logitContributions": None,
        "creatorId": None,
    }


def _limits(activity: Activity) -> list[tuple[float, float, float]]:
    """(binMin, binMax, binContains) of each band in which features fire: the top group, and four quarters."""
    histogram, highest = unpack_histogram(bytes(activity.histogram)), activity.max_activation
    cuts = [highest, *(histogram.quantile(q) for q in (0.75, 0.5, 0.25)), 0.0]
    quarters = [(cuts[i + 1], cuts[i], 0.25) for i in range(NEAR_MISS - 1)]
    return [(-1.0, highest, -1.0), *quarters]


def labels_of(run: Run, first: int, last: int) -> Any:
    """Labels of these features that stand, but for those that another run's rules gave and that are not shown."""
    rows = Label.objects.filter(feature__sae=run.sae_id, feature__index__range=(first, last), withdrawn_at=None)
    mine = rows.filter(Q(run=None) | Q(run=run) | Q(pk=F("feature__label")))
    return (
        mine.select_related("author", "feature")
        .defer("feature__logits", "feature__neighbours")
        .order_by("feature__index", "pk")
    )


def explanation_records(named: Named, labels: Any) -> Iterator[Record]:
    for label in labels.iterator(chunk_size=1_000):
        yield named.keys(label.feature.index) | {
            "id": notes_out.label_id(label),
            "description": label.explanation or label.text,
            "typeName": label.method or (f"rule: {label.rule}" if label.source == Label.Source.RULE else label.source),
            "explanationModelName": label.explainer,
            "authorId": notes_out.author_of(label),
            "embedding": "",
        }


def _about(run: Run, named: Named) -> dict[str, Record]:
    model, made = run.sae.model, run.created_at.isoformat()
    source = {
        "id": named.source,
        "modelId": named.model,
        "setName": named.set_name,
        "hasDashboards": True,
        "dataset": run.corpus.name,
        "num_prompts": None,  # contexts differ in length: their product would be no count of tokens
        "num_tokens_in_prompt": None,
        "notes": f"{run.n_tokens} tokens in {run.n_contexts} contexts were counted" if run.n_tokens else "",
        "visibility": "PRIVATE",
        "createdAt": made,
    }
    return {
        "model": {
            "id": named.model,
            "displayName": model.name,
            "layers": model.n_layers,
            "dimension": model.d_model,
            "visibility": "PRIVATE",
            "createdAt": made,
        },
        "release": {"name": named.set_name, "description": run.sae.name, "visibility": "PRIVATE", "createdAt": made},
        "sourceset": {"modelId": named.model, "name": named.set_name, "description": run.sae.name, "createdAt": made},
        "source": source,
    }


def _effects(sign: str, ranked: Ranked, tokens: Tokens) -> Record:
    return {f"{sign}_str": tokens.texts(ranked.ids), f"{sign}_values": ranked.values.tolist()}


def _centres(histogram: Histogram) -> list[float]:
    edges = histogram.edges.astype(np.float64)
    centres: list[float] = ((edges[1:] + edges[:-1]) / 2).tolist()
    return centres


def _hook_name(run: Run) -> str:
    sae = run.sae
    return f"blocks.{sae.layer}.hook_{sae.hook}" if sae.hook in _LENS else sae.hook


def _line(record: Record) -> bytes:
    """A lone surrogate or a number that is not finite has no place in JSON that others read."""
    try:
        return json.dumps(record, allow_nan=False, ensure_ascii=False).encode() + b"\n"
    except (ValueError, UnicodeEncodeError):
        return json.dumps(storable(record), allow_nan=False, ensure_ascii=False).encode() + b"\n"


def _path(name: str) -> str:
    """A name as a part of a path."""
    kept = "".join(c if c.isalnum() or c in "-_.@+" else "_" for c in name)[:150].strip(".")
    return kept or "unnamed"
