"""Who or what wrote the label that each feature of an SAE shows: what a table is filtered by.

A process keeps one array for each SAE, and brings it up to date from the log of changes. Who writes the log locks the
SAE's row first, so that the keys of one SAE's changes become visible in their order.
"""

from dataclasses import dataclass

import numpy as np
from django.db.models import F, Max
from numpy.typing import NDArray

from features.kept import Kept
from features.models import SAE, Feature, LabelChange

NONE, RULE, MODEL, PERSON = range(4)
NAMES = {"none": NONE, "rule": RULE, "model": MODEL, "person": PERSON}


@dataclass(frozen=True)
class _Known:
    """``kinds`` of an SAE as they were after change ``last``, at ``epoch``."""

    epoch: int
    last: int
    kinds: NDArray[np.uint8]


_kept: Kept[_Known] = Kept(64 << 20)


def kinds_of(sae: SAE) -> NDArray[np.uint8]:
    """One of NONE, RULE, MODEL and PERSON for each feature, [d_sae]: one query; two where nothing is known yet or
    labels changed without a log, which ``sae.label_epoch`` says: ``sae`` has to be as fresh as the answer is to be.
    """
    key = (sae.pk, sae.created_at)
    known = _kept.find(key)
    fresh = _read(sae) if known is None or known.epoch != sae.label_epoch else _after(known, sae)
    if fresh is not known:
        _kept.keep(key, fresh, fresh.kinds.nbytes)
    return fresh.kinds


def changed(sae_id: int) -> None:
    """To be called by whoever sets the labels of many features without a row of the log for each: one query."""
    SAE.objects.filter(pk=sae_id).update(label_epoch=F("label_epoch") + 1)


def _read(sae: SAE) -> _Known:
    """The log's end first: a change that comes in between is read twice rather than never."""
    last = LabelChange.objects.filter(sae=sae).aggregate(last=Max("pk"))["last"] or 0
    shown = Feature.objects.filter(sae=sae, label__isnull=False).values_list("index", "label__source")
    kinds = np.zeros(sae.d_sae, np.uint8)
    for index, source in shown.iterator(chunk_size=10_000):
        kinds[index] = NAMES[source]
    return _Known(sae.label_epoch, last, kinds)


def _after(known: _Known, sae: SAE) -> _Known:
    changes = LabelChange.objects.filter(sae=sae, pk__gt=known.last).order_by("pk")
    rows = list(changes.values_list("pk", "index", "after__source"))
    if not rows:
        return known
    kinds = known.kinds.copy()
    for _, index, source in rows:
        kinds[index] = NAMES[source or "none"]
    return _Known(known.epoch, rows[-1][0], kinds)
