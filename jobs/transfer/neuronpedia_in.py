"""Neuronpedia's lines into the spool: features, activations and explanations."""

from typing import Any

import numpy as np

from features.store.histogram import pack_edges
from features.store.ranked import Ranked, pack_ranked
from jobs.transfer.records import (
    ActivationRecord,
    FeatureRecord,
    Source,
    activation,
    belongs,
    explanation,
    feature,
    index_of,
)
from jobs.transfer.spool import Spool

NP_INTERVAL = ("binMin", "binContains")


def read_feature(record: dict[str, Any], spool: Spool, source: Source) -> None:
    """Raises Refused, as all of these do."""
    belongs(record, source)
    if not spool.facts.get("hook") and isinstance(hook := record.get("hookName"), str):
        spool.facts["hook"] = hook[:200]
    keep_feature(feature(record), spool)


def read_activation(record: dict[str, Any], spool: Spool, source: Source) -> None:
    belongs(record, source)
    index = index_of(record)
    spool.require(index)
    keep_activation(activation(record, index, NP_INTERVAL), spool)


def read_explanation(record: dict[str, Any], spool: Spool, source: Source) -> None:
    belongs(record, source)
    found = explanation(record)
    spool.require(found.index, named=True)
    body = {
        "text": found.text,
        "explanation": found.explanation,
        "source": "model",
        "method": found.method,
        "explainer": found.explainer,
        "author": found.author,
    }
    spool.label(found.index, found.id or f"{found.method} {found.explainer} {found.text}"[:100], body)


def keep_feature(found: FeatureRecord, spool: Spool) -> None:
    if found.width:
        spool.facts.setdefault("width", found.width)
    logits = [Ranked(np.array(spool.token_ids(words), np.int64), values) for words, values in (found.up, found.down)]
    n_firing = 0 if not found.density else None
    row = (
        found.index, 0, found.density, n_firing, None, found.maximum, None, found.norm, None,
        pack_edges(found.histogram), pack_ranked(*logits), pack_ranked(Ranked(*found.near)), b"", b"", None,
    )  # fmt: skip
    spool.feature(row)


def keep_activation(found: ActivationRecord, spool: Spool) -> None:
    ids = spool.token_ids(found.tokens)
    peak = float(found.values.max())
    number = spool.context(ids, found.document_id, found.document_source)
    positions, values = found.positions.astype("<u4").tobytes(), found.values.astype("<f4").tobytes()
    spool.example(found.index, number, found.low, positions, values, peak)
