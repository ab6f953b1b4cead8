"""Writing a wide run into the database, made-up tables of a real run's proportions: time, and bytes per feature."""

import time
from typing import Any

from django.db import connection, transaction

from features.models import SAE, Activity, Context, Corpus, Feature, Label, LanguageModel, Run
from jobs.ingest import write

N_CONTEXTS = 2_048
TOP = (24, 0, 0, 0, 0, 0, 0)


def measure(n_features: int, narrow: int) -> dict[str, Any]:
    """Seconds and rows/s for ``n_features`` with 24 top examples; bytes for ``narrow`` features with everything."""
    from tests.jobs.synthetic import PER_BAND, make_tables  # the generator lives with the tests that check it

    small = make_tables(narrow, N_CONTEXTS, per_band=PER_BAND)
    run = _run(narrow)
    before = sizes()
    with transaction.atomic():
        write(run, small, new_sae=True)
    after = sizes()
    grown = {name: (after[name] - before[name]) / narrow for name in after}
    large = make_tables(n_features, N_CONTEXTS * 8, per_band=TOP)
    run = _run(n_features)
    began = time.perf_counter()
    with transaction.atomic():
        write(run, large, new_sae=True)
    seconds = time.perf_counter() - began
    rows = 2 * n_features + len(large.labels) + Context.objects.filter(run=run).count()
    return {
        "vendor": connection.vendor,
        "n_features": n_features,
        "seconds": seconds,
        "rows_per_s": rows / seconds,
        "bytes_by_table": grown,
        "bytes_per_feature": grown["features_activity"] + grown["features_context"],
        "sae_bytes_per_feature": grown["features_feature"] + grown["features_label"],
    }


def _run(d_sae: int) -> Run:
    model, _ = LanguageModel.objects.get_or_create(
        slug="bench", defaults={"name": "bench", "n_layers": 1, "d_model": 8, "vocab_size": 49_152}
    )
    corpus, _ = Corpus.objects.get_or_create(slug="bench", defaults={"n_documents": 1, "n_bytes": 1})
    name = f"bench-{SAE.objects.count()}"
    sae = SAE.objects.create(
        slug=name, name=name, model=model, hook="resid_post", layer=0, d_in=8, d_out=8, d_sae=d_sae, digest=name
    )
    counts = dict.fromkeys(("n_documents", "n_contexts", "n_special", "n_sinks", "n_alive", "n_dense"), 0)
    figures = dict.fromkeys(("explained_variance", "fvu", "cosine", "shrinkage", "l0", "seconds"), 0.0)
    return Run.objects.create(
        sae=sae, corpus=corpus, settings={}, provenance={}, n_tokens=1_000_000, valid=True, **counts, **figures
    )


def sizes() -> dict[str, int]:
    """Bytes of each table with its indexes, whatever stands beside them in the database."""
    if connection.vendor == "postgresql":  # COPY takes pages in advance; the first vacuum gives them back
        with connection.cursor() as cursor:
            cursor.execute("VACUUM ANALYZE")
    tables = [kind._meta.db_table for kind in (Activity, Context, Feature, Label)]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            return {t: _one(cursor, "SELECT pg_total_relation_size(%s::regclass)", t) for t in tables}
        pages = "SELECT sum(pgsize) FROM dbstat WHERE name IN (SELECT name FROM sqlite_master WHERE tbl_name = %s)"
        return {t: _one(cursor, pages, t) for t in tables}


def _one(cursor: Any, query: str, table: str) -> int:
    cursor.execute(query, [table])
    return int(cursor.fetchone()[0])
