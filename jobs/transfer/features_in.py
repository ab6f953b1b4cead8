"""Features and activities of an import, a few hundred at a time: what is new is inserted, what differs replaced."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.models import SAE, Activity, Feature, Run
from features.store.examples import unpack_examples
from jobs import bulk
from jobs.transfer.contexts_in import Citations
from jobs.transfer.counts import Counts
from jobs.transfer.packing_in import Found, pack, peak_of, with_numbers
from jobs.transfer.tables import ACTIVITY, FEATURE

CHUNK = 256
_PACKED = {"logits", "neighbours", "histogram", "examples", "partners", "experts"}
Values = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """Where the features go; ``numbers``: of the files' tokens here, None if they are the same."""

    sae: SAE
    run: Run
    numbers: NDArray[np.int64] | None


def write_features(found: Iterator[Found], target: Target, citations: Citations, counts: Counts) -> bool:
    """Whether anything was written. Three queries for each CHUNK that holds nothing new, a few more for others."""
    before = counts.new + counts.changed
    while chunk := list(islice(found, CHUNK)):
        _write_chunk(chunk, target, citations, counts)
    return counts.new + counts.changed > before


def _write_chunk(chunk: Sequence[Found], target: Target, citations: Citations, counts: Counts) -> None:
    indexes = [one.index for one in chunk]
    features = {f.index: f for f in Feature.objects.filter(sae=target.sae, index__in=indexes)}
    activities = {a.index: a for a in Activity.objects.filter(run=target.run, index__in=indexes)}
    new: list[tuple[int, Values]] = []
    changed: list[tuple[int, Values]] = []
    rows: list[tuple[int, Values]] = []
    replaced: list[int] = []
    for one in chunk:
        old_feature, old_activity = features.get(one.index), activities.get(one.index)
        weights = _weights(one, target, old_feature)
        did = _did(one, target, old_activity)
        if did is None:
            continue
        differs = old_feature is not None and weights is not None and _differs(weights, old_feature)
        if weights is not None and old_feature is None:
            new.append((one.index, weights))
        elif weights is not None and old_feature is not None and differs:
            changed.append((old_feature.pk, weights))
        same = old_activity is not None and not _differs(did, old_activity)
        if same and not differs:
            counts.same += 1
            continue
        counts.add(new=old_activity is None)
        if not same:
            rows.append((one.index, did))
            if old_activity is not None:
                replaced.append(one.index)
                citations.add(one.index, _cited(bytes(old_activity.examples)), now=False)
            citations.add(one.index, _cited(did["examples"]), now=True)
    keys = {feature.index: feature.pk for feature in features.values()} | _insert(target.sae, new)
    for name in FEATURE:
        bulk.update(Feature, name, [(pk, values[name]) for pk, values in changed])
    if replaced:
        Activity.objects.filter(run=target.run, index__in=replaced).delete()
    packed = [(target.run.pk, keys[i], i, *(did[name] for name in ACTIVITY)) for i, did in rows]
    bulk.insert(Activity, ("run", "feature", "index", *ACTIVITY), packed)


def _insert(sae: SAE, new: list[tuple[int, Values]]) -> dict[int, int]:
    """The keys of new features, by index."""
    keys = bulk.reserve(Feature, len(new))
    rows = [
        (pk, sae.pk, index, *(values[name] for name in FEATURE)) for pk, (index, values) in zip(keys, new, strict=True)
    ]
    bulk.insert(Feature, ("id", "sae", "index", *FEATURE), rows)
    return {index: pk for pk, (index, _) in zip(keys, new, strict=True)}


def _weights(one: Found, target: Target, old: Feature | None) -> Values | None:
    """What follows from the weights: what the files do not say stays as it is."""
    if one.row is None:
        return None
    exact = bool(one.row["exact"])
    found = {
        "decoder_norm": one.row["norm"],
        "encoder_decoder_cosine": one.row["cosine"],
        "logits": with_numbers(one.row["logits"], 2, target.numbers),
        "neighbours": one.row["neighbours"],
    }
    if old is None or exact:
        return found
    empty = {"decoder_norm": None, "encoder_decoder_cosine": None, "logits": b"\2\0\0", "neighbours": b"\1\0"}
    return {name: getattr(old, name) if value == empty[name] else value for name, value in found.items()}


def _did(one: Found, target: Target, old: Activity | None) -> Values | None:
    """The columns of an Activity; None for examples of a feature of which nothing else is known."""
    if one.row is None:
        if old is None:
            return None
        packed = pack(one.examples, bytes(old.histogram))
        kept = {name: getattr(old, name) for name in ACTIVITY}
        return kept | {"examples": packed, "max_activation": peak_of(packed)}
    row = one.row
    examples = row["examples"]
    maximum = row["maximum"]
    if not row["exact"]:
        examples = pack(one.examples, row["histogram"]) if one.examples else bytes(old.examples) if old else b""
        maximum = peak_of(examples) or row["maximum"]
    return {
        "n_firing": row["n_firing"] if row["n_firing"] is not None else _firing(row["density"], target.run.n_tokens),
        "n_contexts": row["n_contexts"],
        "density": row["density"],
        "max_activation": maximum,
        "mean_activation": row["mean"],
        "histogram": row["histogram"],
        "examples": examples,
        "partners": row["partners"],
        "experts": row["experts"],
    }


def _firing(density: float, n_tokens: int) -> int | None:
    return round(density * n_tokens) if n_tokens else None


def _differs(values: Values, old: Feature | Activity) -> bool:
    return any(
        (bytes(getattr(old, name)) if name in _PACKED else getattr(old, name)) != value
        for name, value in ((name, bytes(v) if name in _PACKED else v) for name, v in values.items())
    )


def _cited(packed: bytes) -> list[int]:
    """The contexts in which it fires: those that stay silent do not count as citations."""
    return [example.context for example in unpack_examples(packed) if example.fires]
