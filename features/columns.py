"""The columns of a run: read once a process, so that a page sorts, filters and counts without asking the database."""

from collections.abc import Iterable

import numpy as np
from django.db.models.functions import Coalesce

from features.kept import Kept
from features.models import Activity, Columns, Label, Run
from features.store.columns import RunColumns, pack_columns, unpack_columns

FIELDS = ("index", "n_firing", "density", "max_activation", "mean_activation")
_TYPE = np.dtype(list(zip(FIELDS, ("i8", "i8", "f8", "f8", "f8"), strict=True)))
_kept: Kept[RunColumns] = Kept(256 << 20)


def columns_of(run: Run) -> RunColumns:
    """What ``run`` found, by index. No query where this process has it; else one, and two more for a run that has no
    Columns row.

    A run's key may come again after the run was deleted, hence its time; ``revision`` rises when an import changes it.
    """
    key = (run.pk, run.revision, run.created_at)
    if (found := _kept.find(key)) is not None:
        return found
    packed = Columns.objects.filter(run=run).values_list("packed", flat=True).first()
    columns = unpack_columns(bytes(packed) if packed is not None else packed_from_rows(run))
    # A run without any feature is one that is still being written, in a transaction of the caller's own.
    return _kept.keep(key, columns, columns.nbytes) if columns.present.any() else columns


def packed_from_rows(run: Run) -> bytes:
    """The columns of a run, packed, as its Activity rows say them; 0 stands for null. Two queries."""
    said = ("index", Coalesce("n_firing", 0), "density", "max_activation", Coalesce("mean_activation", 0.0))
    rows = Activity.objects.filter(run=run).order_by("index").values_list(*said)
    rules = Label.objects.filter(run=run, source=Label.Source.RULE).values_list("feature__index", flat=True)
    return pack_rows(run.sae.d_sae, rows.iterator(chunk_size=10_000), rules.iterator(chunk_size=10_000))


def pack_rows(d_sae: int, rows: Iterable[tuple[float, ...]], rules: Iterable[int]) -> bytes:
    """The columns of rows of FIELDS, any number of them up to ``d_sae``; ``rules``: the indexes that are ruled."""
    table = np.fromiter(rows, _TYPE)
    whole = np.zeros(d_sae, _TYPE)
    whole[table["index"]] = table
    present, ruled = np.zeros(d_sae, bool), np.zeros(d_sae, bool)
    present[table["index"]] = True
    ruled[np.fromiter(rules, np.int64)] = True
    n_firing, density, highest, mean = (whole[name] for name in FIELDS[1:])
    return pack_columns(n_firing, density, highest, mean, ruled, present)
