"""From plain arrays to the rows of the tables that a run fills, packed one by one as they are written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from django.utils import timezone
from numpy.typing import NDArray

from features.models import Label
from features.store.columns import pack_columns
from features.store.contexts import pack_features, pack_tokens
from features.store.examples import Examples, pack_examples
from features.store.histogram import pack_histogram
from features.store.ranked import Ranked, pack_ranked
from jobs.engine.corpus import Context
from jobs.engine.examples import NEAR, Selection
from jobs.engine.labels import RuleLabel
from jobs.engine.statistics import FIRST_BIN

Row = tuple[Any, ...]
FEATURE = ("sae", "index", "decoder_norm", "encoder_decoder_cosine", "logits", "neighbours", "label")
ACTIVITY = (
    "run", "feature", "index", "n_firing", "n_contexts", "density", "max_activation", "mean_activation", "histogram",
    "examples", "partners", "experts",
)  # fmt: skip
LABEL = ("id", "feature", "run", "source", "text", "rule", "precision", "n_held_out", "created_at")
CONTEXT = ("run", "number", "document_id", "document_source", "offset", "token_ids", "features")


@dataclass(frozen=True)
class Lists:
    """Ranked lists of every feature: ``ids`` integers [F, lists, n] and ``values`` float32; -1 stands for no entry."""

    ids: NDArray[np.integer]
    values: NDArray[np.float32]

    def pack(self, index: int) -> bytes:
        """The lists of one feature."""
        lists = zip(self.ids[index], self.values[index], strict=True)
        return pack_ranked(*(Ranked(ids[ids >= 0], values[ids >= 0]) for ids, values in lists))


@dataclass(frozen=True)
class Weights:
    """What follows from an SAE's weights: ``logits`` up and down, ``neighbours`` by decoder and by encoder."""

    logits: Lists
    neighbours: Lists
    norms: NDArray[np.float32]  # [F], of the decoder rows
    cosines: NDArray[np.float32]  # [F], of encoder and decoder


@dataclass(frozen=True)
class Statistics:
    """What was counted of every feature over ``n_tokens`` unmasked tokens."""

    n_tokens: int
    n_firing: NDArray[np.int64]  # [F]
    n_contexts: NDArray[np.int64]  # [F]
    totals: NDArray[np.float64]  # [F]
    histograms: NDArray[np.int64]  # [F, N_BINS]

    def means(self) -> NDArray[np.float64]:
        """Of the activations of each feature where it fires [F]; 0 where it never does."""
        means: NDArray[np.float64] = self.totals / np.maximum(self.n_firing, 1)
        return means


@dataclass(frozen=True)
class Tables:
    """All that a run leaves beside its own row. ``contexts`` are found by number."""

    weights: Weights
    statistics: Statistics
    selection: Selection
    partners: Lists
    labels: Sequence[tuple[int, RuleLabel]]
    contexts: Sequence[Context]
    experts: Lists | None = None  # of a mixture of experts: those chosen, by share and by lift


def feature_rows(sae_id: int, weights: Weights, labels: dict[int, int]) -> Iterator[Row]:
    """``labels``: the key of the label of each feature that has one."""
    norms, cosines = weights.norms.tolist(), weights.cosines.tolist()
    for index, (norm, cosine) in enumerate(zip(norms, cosines, strict=True)):
        packed = weights.logits.pack(index), weights.neighbours.pack(index)
        yield sae_id, index, norm, cosine, *packed, labels.get(index)


def activity_rows(run_id: int, tables: Tables, features: Sequence[int]) -> Iterator[Row]:
    """``features``: the keys of all features, by index."""
    found = tables.statistics
    n_firing, n_contexts = found.n_firing.tolist(), found.n_contexts.tolist()
    means, maxima = found.means().tolist(), _maxima(tables)
    examples = _examples(tables.selection, len(features))
    for index, (feature_id, maximum) in enumerate(zip(features, maxima.tolist(), strict=True)):
        yield (
            run_id,
            feature_id,
            index,
            n_firing[index],
            n_contexts[index],
            n_firing[index] / found.n_tokens,
            maximum,
            means[index],
            pack_histogram(FIRST_BIN, found.histograms[index]),
            pack_examples(next(examples)),
            tables.partners.pack(index),
            tables.experts.pack(index) if tables.experts else b"",
        )


def columns(tables: Tables) -> bytes:
    """The numbers of ``activity_rows`` side by side, packed."""
    found = tables.statistics
    ruled = np.zeros(len(found.n_firing), bool)
    ruled[[index for index, _ in tables.labels]] = True
    return pack_columns(found.n_firing, found.n_firing / found.n_tokens, _maxima(tables), found.means(), ruled)


def _maxima(tables: Tables) -> NDArray[np.float64]:
    """The highest activation of each feature, which is that of its highest example."""
    rows, fires = tables.selection.rows, tables.selection.band < NEAR
    maxima = np.zeros(len(tables.statistics.n_firing))
    np.maximum.at(maxima, rows.feature[fires], rows.value[fires])
    return maxima


def _examples(selection: Selection, n_features: int) -> Iterator[Examples]:
    """Those of each feature, in their order."""
    rows = selection.rows
    starts = np.searchsorted(rows.feature, np.arange(n_features + 1)).tolist()
    ends = np.concatenate([[0], np.cumsum(rows.length, dtype=np.int64)])
    for first, last in pairwise(starts):
        cut, tokens = slice(first, last), slice(ends[first], ends[last])
        yield Examples(
            contexts=rows.context[cut],
            bands=selection.band[cut],
            ends=ends[first + 1 : last + 1] - ends[first],
            positions=rows.positions[tokens],
            values=rows.values[tokens],
        )


def context_rows(run_id: int, tables: Tables) -> Iterator[Row]:
    """Every context that a feature shows; it names the features that fire in it, not those that stay silent."""
    rows = tables.selection.rows
    fires = tables.selection.band < NEAR
    order = np.lexsort((rows.feature[fires], rows.context[fires]))
    context, feature = rows.context[fires][order], rows.feature[fires][order]
    numbers = np.unique(rows.context)
    starts = np.searchsorted(context, numbers)
    stops = np.searchsorted(context, numbers, side="right")
    for number, start, stop in zip(numbers.tolist(), starts.tolist(), stops.tolist(), strict=True):
        shown = tables.contexts[number]
        yield (
            run_id,
            number,
            shown.document_id,
            shown.source,
            shown.offset,
            pack_tokens(shown.token_ids),
            pack_features(feature[start:stop]),
        )


def label_rows(run_id: int, tables: Tables, keys: Sequence[int], features: Sequence[int]) -> Iterator[Row]:
    """``keys``: of the labels, in their order; ``features``: of all features, by index."""
    source, now = Label.Source.RULE.value, timezone.now()
    for key, (index, label) in zip(keys, tables.labels, strict=True):
        yield key, features[index], run_id, source, label.text, label.rule, label.precision, label.n_held_out, now
