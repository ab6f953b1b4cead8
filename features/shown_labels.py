"""The label that each feature of an SAE shows: who or what wrote it, and its text. A table is filtered by both.

A process keeps arrays for each SAE, and brings them up to date from the log of changes, whose end stands in the SAE's
row. Who writes the log locks that row first, so that the keys of one SAE's changes become visible in their order.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from django.db import connection
from django.db.models import F, OuterRef, Subquery
from numpy.typing import NDArray

from features.kept import Kept
from features.models import SAE, LabelChange, Phrase

NONE, RULE, MODEL, PERSON = range(4)
NAMES = {"none": NONE, "rule": RULE, "model": MODEL, "person": PERSON}
BATCH = 10_000

_SHOWN = """SELECT f."index", l.source, p.id FROM features_feature f JOIN features_label l ON l.id = f.label_id
    LEFT JOIN features_phrase p ON p.text = l.text WHERE f.sae_id = %s"""


@dataclass(frozen=True)
class ShownLabels:
    """``kinds`` uint8 [d_sae], of NONE, RULE, MODEL and PERSON; ``phrases`` int64 [d_sae], keys of Phrase, 0 for none.

    As they were after change ``last``, at ``epoch``.
    """

    epoch: int
    last: int
    kinds: NDArray[np.uint8]
    phrases: NDArray[np.int64]


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
    return _kept.keep(key, known, known.kinds.nbytes + known.phrases.nbytes)


def _read(sae: SAE) -> ShownLabels:
    """What changes after ``sae`` was read is read twice rather than never."""
    kinds, phrases = np.zeros(sae.d_sae, np.uint8), np.zeros(sae.d_sae, np.int64)
    with connection.cursor() as cursor:
        cursor.execute(_SHOWN, [sae.pk])
        while rows := cursor.fetchmany(BATCH):
            indexes = [index for index, _, _ in rows]
            kinds[indexes] = [NAMES[source] for _, source, _ in rows]
            phrases[indexes] = [phrase or 0 for _, _, phrase in rows]
    return ShownLabels(sae.label_epoch, sae.last_label_change, kinds, phrases)


def _after(known: ShownLabels, sae: SAE) -> ShownLabels:
    phrase = Phrase.objects.filter(text=OuterRef("after__text")).values("pk")
    changes = LabelChange.objects.filter(sae=sae, pk__gt=known.last).order_by("pk")
    rows = list(changes.values_list("pk", "index", "after__source", Subquery(phrase)))
    kinds, phrases = known.kinds.copy(), known.phrases.copy()
    for _, index, source, key in rows:
        kinds[index], phrases[index] = NAMES[source or "none"], key or 0
    return ShownLabels(known.epoch, rows[-1][0] if rows else sae.last_label_change, kinds, phrases)
