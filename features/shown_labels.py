"""The label that each feature of an SAE shows: who or what wrote it, and its text. A table is filtered by both.

A process keeps arrays for each SAE, and brings them up to date from the log of changes, whose end stands in the SAE's
row. Who writes the log locks that row first, so that the keys of one SAE's changes become visible in their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from django.db import connection
from django.db.models import F, OuterRef, Subquery
from numpy.typing import NDArray

from features.kept import Kept
from features.models import SAE, LabelChange, Phrase

NONE, RULE, MODEL, PERSON = range(4)
NAMES = {"none": NONE, "rule": RULE, "model": MODEL, "person": PERSON}
BATCH = 10_000

_SHOWN = """SELECT f."index", l.source, l.id, p.id FROM features_feature f JOIN features_label l ON l.id = f.label_id
    LEFT JOIN features_phrase p ON p.text = l.text WHERE f.sae_id = %s"""


@dataclass(frozen=True)
class ShownLabels:
    """``kinds`` uint8 [d_sae], of NONE, RULE, MODEL and PERSON; ``labels`` and ``phrases`` int64 [d_sae], keys of Label
    and Phrase, 0 for none. As they were after change ``last``, at ``epoch``.
    """

    epoch: int
    last: int
    kinds: NDArray[np.uint8]
    labels: NDArray[np.int64]
    phrases: NDArray[np.int64]

    @cached_property
    def between(self) -> tuple[int, int] | None:
        """The first and the last key of those labels."""
        keys = self.labels[self.labels > 0]
        return (int(keys.min()), int(keys.max())) if len(keys) else None

    def with_phrases(self, keys: Sequence[int]) -> NDArray[np.bool_]:
        """Which features show a label of these texts, [d_sae]."""
        return _among(self.phrases, keys)

    def with_labels(self, keys: Sequence[int]) -> NDArray[np.bool_]:
        return _among(self.labels, keys)


def _among(column: NDArray[np.int64], keys: Sequence[int]) -> NDArray[np.bool_]:
    """np.isin, as fast as reading a table allows: keys are near to each other."""
    table = np.zeros(max(keys, default=0) + 2, bool)
    table[list(keys)] = True
    found: NDArray[np.bool_] = table.take(column, mode="clip")
    return found


_kept: Kept[ShownLabels] = Kept(128 << 20)


def labels_of(sae: SAE) -> ShownLabels:
    """No query unless labels changed since the last call; one then. ``sae`` has to be as fresh as the answer."""
    key = (sae.pk, sae.created_at)
    known = _kept.find(key)
    if known is None or known.epoch != sae.label_epoch:
        known = _keep(key, _read(sae))
    elif known.last < sae.last_label_change:
        known = _keep(key, _after(known, sae))
    return known


def phrases_of(saes: Sequence[SAE]) -> NDArray[np.bool_]:
    """Which phrases features of ``saes`` show, by their keys: True for those. Queries as of ``labels_of`` for each."""
    shown = [labels_of(sae).phrases for sae in saes]
    found = np.zeros(1 + max((int(phrases.max(initial=0)) for phrases in shown), default=0), bool)
    for phrases in shown:
        found[phrases] = True
    found[0] = False  # of features without a label
    return found


def changed(*saes: int) -> None:
    """To be called by whoever sets many labels of ``saes`` without a row of the log for each: one query."""
    SAE.objects.filter(pk__in=saes).update(label_epoch=F("label_epoch") + 1)


def _keep(key: tuple[object, ...], known: ShownLabels) -> ShownLabels:
    return _kept.keep(key, known, known.kinds.nbytes + known.labels.nbytes + known.phrases.nbytes)


def _read(sae: SAE) -> ShownLabels:
    """What changes after ``sae`` was read is read twice rather than never."""
    kinds = np.zeros(sae.d_sae, np.uint8)
    labels, phrases = np.zeros(sae.d_sae, np.int64), np.zeros(sae.d_sae, np.int64)
    with connection.cursor() as cursor:
        cursor.execute(_SHOWN, [sae.pk])
        while rows := cursor.fetchmany(BATCH):
            indexes, sources, keys, texts = zip(*rows, strict=True)
            at = np.array(indexes)
            kinds[at], labels[at] = [NAMES[source] for source in sources], keys
            phrases[at] = [key or 0 for key in texts]
    return ShownLabels(sae.label_epoch, sae.last_label_change, kinds, labels, phrases)


def _after(known: ShownLabels, sae: SAE) -> ShownLabels:
    phrase = Phrase.objects.filter(text=OuterRef("after__text")).values("pk")
    changes = LabelChange.objects.filter(sae=sae, pk__gt=known.last).order_by("pk")
    rows = list(changes.values_list("pk", "index", "after__source", "after", Subquery(phrase)))
    kinds, labels, phrases = known.kinds.copy(), known.labels.copy(), known.phrases.copy()
    for _, index, source, label, text in rows:
        kinds[index], labels[index], phrases[index] = NAMES[source or "none"], label or 0, text or 0
    return ShownLabels(known.epoch, rows[-1][0] if rows else sae.last_label_change, kinds, labels, phrases)
