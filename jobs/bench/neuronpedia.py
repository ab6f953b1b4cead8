"""The same features in Neuronpedia's layout, in the same PostgreSQL: how much more room, how much longer to read one.

A database of its own holds one SAE, in our tables with all that searches need, and in a schema beside them in theirs.
"""

import time
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import psycopg
from django.db import connection
from numpy.typing import NDArray

from features.models import Activity, LanguageModel, Run
from features.store.contexts import unpack_flat_tokens
from features.store.examples import unpack_examples
from features.store.histogram import unpack_histogram
from features.store.ranked import unpack_ranked
from features.vocabulary import tokens_of
from jobs.bench.web import GENERATOR, fill

NUMBER = 3  # of 65,536 features, where all SAEs together have a million
READ, WARMING = 300, 30
TABLES = ("Neuron", "Activation", "Explanation")
FEATURE = """SELECT a.n_firing, a.n_contexts, a.density, a.max_activation, a.mean_activation, f.decoder_norm,
    f.encoder_decoder_cosine, f.label_id, a.examples, a.histogram, a.partners, f.logits, f.neighbours, a.run_id,
    l.id, l.text, l.explanation, l.source, l.author_id, l.author_name, l.rule, l."precision", l.n_held_out, l.method,
    l.explainer
    FROM features_activity a JOIN features_feature f ON f.id = a.feature_id
    LEFT JOIN features_label l ON l.feature_id = f.id WHERE a."index" = %s AND a.run_id =
    (SELECT r.id FROM features_run r JOIN features_sae s ON s.id = r.sae_id WHERE s.slug = %s
    ORDER BY r.created_at DESC, r.id DESC LIMIT 1)"""
LABEL = 14
"""The column in which a label begins."""
CONTEXTS = "SELECT number, token_ids FROM features_context WHERE run_id = %s AND number = ANY(%s)"
Cursor = psycopg.Cursor[Any]


def measure(n_features: int, read: int = READ) -> dict[str, Any]:
    """Bytes of both, and milliseconds (median, 95th percentile) to read what a feature's page shows of it."""
    layout = import_module(f"{GENERATOR}.neuronpedia")
    fill(n_features, only=NUMBER)
    run = Run.objects.select_related("sae__model").get()
    ours = _bytes("public")
    began = time.perf_counter()
    layout.fill(run)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE")
    seconds, theirs = time.perf_counter() - began, _bytes(layout.SCHEMA)
    times = _times(run, layout.SCHEMA, layout.source_of(run), read)
    medians = {name: float(np.median(ms)) for name, ms in times.items()}
    return {
        "n_features": run.sae.d_sae,
        "n_examples": _count(layout.SCHEMA),
        "fill_s": seconds,
        "bytes": {"ours": ours, "theirs": theirs},
        "ms": medians,
        "p95_ms": {name: float(np.quantile(ms, 0.95)) for name, ms in times.items()},
        "size_ratio": theirs / ours,
        "feature_query_ratio": medians["theirs"] / medians["ours"],
    }


def _bytes(schema: str) -> int:
    """All tables of a schema with their indexes and what is stored beside them."""
    query = """SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = %s AND c.relkind IN ('r', 'm')"""
    with connection.cursor() as cursor:
        cursor.execute(query, [schema])
        return int(cursor.fetchone()[0])


def _count(schema: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f'SELECT count(*) FROM {schema}."Activation"')  # noqa: S608 - a name of our own
        return int(cursor.fetchone()[0])


def _times(run: Run, schema: str, source: tuple[str, str], n: int) -> dict[str, list[float]]:
    """Milliseconds by layout, each through psycopg alone; they take turns on live features that a seed draws."""
    alive = list(Activity.objects.filter(run=run, density__gt=0).order_by("index").values_list("index", flat=True))
    drawn = np.random.default_rng(0).choice(alive, n + WARMING).tolist()
    connection.ensure_connection()
    connection.connection.prepare_threshold = 5  # what psycopg does unless it is told otherwise, as Django tells it
    cursor = psycopg.Cursor(connection.connection)  # not Django's, which sends parameters as text
    readers: dict[str, Callable[[int], Any]] = {
        "ours": lambda index: read_ours(cursor, run, index),
        "theirs": lambda index: read_theirs(cursor, schema, source, index),
    }
    found: dict[str, list[float]] = {name: [] for name in readers}
    for index in drawn:
        for name, read in readers.items():
            began = time.perf_counter()
            read(index)
            found[name].append((time.perf_counter() - began) * 1000)
    return {name: ms[WARMING:] for name, ms in found.items()}


def read_ours(cursor: Cursor, run: Run, index: int) -> Any:
    """A feature with its statistics, weights and labels, and each example as tokens and values: two statements."""
    rows = _all(cursor, FEATURE, [index, run.sae.slug])
    *statistics, packed, histogram, partners, logits, neighbours, key = rows[0][:LABEL]
    labels = [row[LABEL:] for row in rows if row[LABEL] is not None]
    examples = unpack_examples(packed)
    numbers, bands, ends = (column.tolist() for column in (examples.contexts, examples.bands, examples.ends))
    contexts = dict(_all(cursor, CONTEXTS, [key, numbers]))
    strings, (ids, stops) = _strings(run.sae.model), unpack_flat_tokens(list(contexts.values()))
    flat = strings[ids].tolist()
    texts = {number: flat[start:end] for number, start, end in zip(contexts, [0, *stops], stops, strict=False)}
    positions, values = examples.positions.tolist(), examples.values.tolist()
    shown = [
        (texts[number], band, positions[start:end], values[start:end])
        for number, band, start, end in zip(numbers, bands, [0, *ends], ends, strict=False)
    ]
    effects = [[(strings[i], value) for i, value in ranked.pairs()] for ranked in unpack_ranked(logits, 2)]
    near = [list(ranked.pairs()) for ranked in (*unpack_ranked(neighbours, 2), *unpack_ranked(partners))]
    return statistics, labels, shown, effects, near, unpack_histogram(histogram)


@cache
def _strings(model: LanguageModel) -> NDArray[np.object_]:
    """All tokens of the model, as a web process keeps them."""
    tokens = tokens_of(model)
    return np.array(tokens.texts(range(len(tokens.ends))), dtype=object)


def read_theirs(cursor: Cursor, schema: str, source: tuple[str, str], index: int) -> Any:
    """The three statements of their page; psycopg makes lists of the arrays."""
    where = '"modelId" = %s AND layer = %s AND "index" = %s'
    found = []
    for table in TABLES:
        order = 'ORDER BY "maxValue" DESC' if table == "Activation" else ""
        statement = f'SELECT * FROM {schema}."{table}" WHERE {where} {order}'  # noqa: S608 - our own names
        found.append(_all(cursor, statement, [*source, str(index)]))
    return found


def _all(cursor: Cursor, statement: str, parameters: list[Any]) -> list[Any]:
    """In PostgreSQL's binary form, the faster one for arrays."""
    return cursor.execute(statement, parameters, binary=True).fetchall()
