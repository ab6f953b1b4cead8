"""The second pass: the spool into the database, all of it in one transaction or nothing."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np
from django.db import transaction
from django.db.models import Count, Q

from features.columns import FIELDS, pack_rows
from features.models import SAE, Activity, Columns, Label, Run
from features.models.run import DENSE, VERY_DENSE
from features.search.contexts import index_run
from jobs.transfer import places
from jobs.transfer.contexts_in import Citations, settle_contexts, write_contexts
from jobs.transfer.counts import Counts
from jobs.transfer.features_in import Target, write_features
from jobs.transfer.labels_in import write_labels
from jobs.transfer.layouts import Plan
from jobs.transfer.packing_in import found
from jobs.transfer.spool import Spool
from jobs.transfer.tokens_in import settle_tokens

T = TypeVar("T")
Pulse = Callable[[Iterator[Any]], Iterator[Any]]
End = Callable[[Run | None, Counts], None]


def know(spool: Spool, plan: Plan) -> None:
    """Tell the spool which features are here already: they may be given labels and examples."""
    if (sae := places.find_sae(plan)) is None:
        return
    run = places.find_run(plan, sae)
    active: Iterable[int] = () if run is None else run.activities.values_list("index", flat=True).iterator()
    spool.know(sae.features.values_list("index", flat=True).iterator(), active)


def write(spool: Spool, plan: Plan, owner: Any, name: str, pulse: Pulse, end: End) -> Run | None:
    """The run that holds what was read; the newest of the SAE where only labels were.

    ``pulse`` passes features on and may raise, ``end`` is called inside the transaction: what either raises undoes all.
    """
    counts = Counts()
    with transaction.atomic():
        model = places.make_model(plan)
        sae = places.make_sae(plan, model, spool.facts, spool.highest() + 1, name)
        if spool.has_activity():
            run: Run | None = _write_run(spool, plan, sae, owner, counts, pulse)
        else:
            run = sae.runs.order_by("-created_at", "-pk").first()
        write_labels(spool, sae, run, counts)
        if run is not None and spool.has_activity():
            _write_columns(run, sae)
        end(run, counts)
    return run


def _write_run(spool: Spool, plan: Plan, sae: SAE, owner: Any, counts: Counts, pulse: Pulse) -> Run:
    run, new = places.make_run(plan, sae, spool.facts, owner)
    run.sae = sae
    _, numbers = settle_tokens(spool, plan, sae.model)
    settle_contexts(spool, run, numbers, new=new)
    citations = Citations(spool)
    wrote = write_features(pulse(found(spool)), Target(sae, run, numbers), citations, counts)
    wrote = write_contexts(spool, run, citations, numbers, new=new) or wrote
    if new or wrote:
        _count(run)
        run.revision += not new
        run.save(update_fields=["n_alive", "n_dense", "n_very_dense", "revision"])
        index_run(run.pk, run.revision)
    return run


def _count(run: Run) -> None:
    rows = Activity.objects.filter(run=run)
    limits = {"n_alive": 0.0, "n_dense": DENSE, "n_very_dense": VERY_DENSE}
    counts = {name: Count("index", filter=Q(density__gt=low)) for name, low in limits.items()}
    for name, n in rows.aggregate(**counts).items():
        setattr(run, name, n)


def _write_columns(run: Run, sae: SAE) -> None:
    """Where it is not known on how many tokens a feature fires, 1 stands for some."""

    def known(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[float, ...]]:
        for index, n_firing, density, highest, mean in rows:
            n = int(density > 0) if n_firing is None else n_firing
            yield index, n, density, highest, np.nan if mean is None else mean

    rows = Activity.objects.filter(run=run).order_by("index").values_list(*FIELDS)
    rules = Label.objects.filter(run=run, source=Label.Source.RULE).values_list("feature__index", flat=True)
    packed = pack_rows(sae.d_sae, known(rows.iterator(chunk_size=10_000)), rules.iterator(chunk_size=10_000))
    Columns.objects.update_or_create(run=run, defaults={"packed": packed})
