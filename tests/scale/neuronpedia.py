"""Neuronpedia's layout of the same features, in a schema of the same PostgreSQL: one row for each example.

Tables and columns are those of its export (Neuron, Activation, Explanation): tokens and values of every example in
full, as arrays; the feature's index as text; an index on (modelId, layer, index) of each, and a text index on what
explanations say. What we do not have stays empty, as does what it does not always have (vectors, embeddings), so that
its tables are rather too small than too large. Near misses and silent contexts are examples, too, with values of zero.
"""

import struct
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
from django.db import connection
from numpy.typing import NDArray

from features.models import Activity, Context, Label, Run
from features.store.contexts import unpack_tokens
from features.store.examples import BANDS, unpack_examples
from features.store.histogram import unpack_histogram
from features.store.ranked import unpack_ranked
from features.vocabulary import Tokens, tokens_of

SCHEMA = "neuronpedia"
KEY = '"modelId" text NOT NULL, layer text NOT NULL, "index" text NOT NULL'
TABLES = f"""
CREATE SCHEMA {SCHEMA};
CREATE TABLE {SCHEMA}."Neuron" ({KEY}, "sourceSetName" text, "creatorId" text, "createdAt" timestamp,
    "maxActApprox" float8, "hasVector" boolean, vector float8[], "vectorLabel" text, "hookName" text,
    "vectorDefaultSteerStrength" float8, "topkCosSimIndices" int4[], "topkCosSimValues" float8[],
    neuron_alignment_indices int4[], neuron_alignment_values float8[], neuron_alignment_l1 float8[],
    correlated_neurons_indices int4[], correlated_neurons_pearson float8[], correlated_neurons_l1 float8[],
    correlated_features_indices int4[], correlated_features_pearson float8[], correlated_features_l1 float8[],
    neg_str text[], neg_values float8[], pos_str text[], pos_values float8[], frac_nonzero float8,
    freq_hist_data_bar_heights float8[], freq_hist_data_bar_values float8[], logits_hist_data_bar_heights float8[],
    logits_hist_data_bar_values float8[], decoder_weights_dist float8[]);
CREATE TABLE {SCHEMA}."Activation" (id text NOT NULL, {KEY}, tokens text[], "values" float8[], "maxValue" float8,
    "maxValueTokenIndex" int4, "minValue" float8, "dataIndex" text, "dataSource" text, "dfaValues" float8[],
    "dfaTargetIndex" int4, "dfaMaxValue" float8, "binMin" float8, "binMax" float8, "binContains" float8,
    "qualifyingTokenIndex" int4, "lossValues" float8[], "logitContributions" text, "creatorId" text,
    "createdAt" timestamp);
CREATE TABLE {SCHEMA}."Explanation" (id text NOT NULL, {KEY}, description text, "authorId" text,
    "explanationModelName" text, "typeName" text, embedding float8[], "createdAt" timestamp);
"""
INDEXES = f"""
ALTER TABLE {SCHEMA}."Neuron" ADD PRIMARY KEY ("modelId", layer, "index");
ALTER TABLE {SCHEMA}."Activation" ADD PRIMARY KEY (id);
ALTER TABLE {SCHEMA}."Explanation" ADD PRIMARY KEY (id);
CREATE INDEX activation_of_neuron ON {SCHEMA}."Activation" ("modelId", layer, "index");
CREATE INDEX explanation_of_neuron ON {SCHEMA}."Explanation" ("modelId", layer, "index");
CREATE INDEX explanation_text ON {SCHEMA}."Explanation" USING gin (to_tsvector('english', description));
"""
CHUNK = 256
CREATOR = "clkht01d40000jv08hvalcvly"
MICROSECONDS = 844_000_000_000_000  # since 2000, as PostgreSQL counts
NULL = struct.pack(">i", -1)
FLOATS, TEXTS = 701, 25  # the types' numbers in PostgreSQL
NO_FLOATS = struct.pack(">iiiI", 12, 0, 0, FLOATS)


def fill(run: Run) -> None:
    """All features of ``run``, each with its examples and labels. Needs PostgreSQL, and Django's own rows in it."""
    with connection.cursor() as cursor:
        cursor.execute(TABLES)
        _neurons(run, cursor)
        _activations(run, cursor)
        _explanations(run, cursor)
        cursor.execute(INDEXES)


def source_of(run: Run) -> tuple[str, str]:
    """What stands in "modelId" and layer."""
    return run.sae.model.slug, f"{run.sae.layer}-{run.sae.slug}"


def _neurons(run: Run, cursor: Any) -> None:
    tokens = tokens_of(run.sae.model)
    model, layer = source_of(run)
    rows = Activity.objects.filter(run=run).select_related("feature").order_by("index")
    names = (
        '"modelId", layer, "index", "sourceSetName", "creatorId", "maxActApprox", "hasVector", "hookName", '
        '"topkCosSimIndices", "topkCosSimValues", correlated_features_indices, correlated_features_pearson, neg_str, '
        "neg_values, pos_str, pos_values, frac_nonzero, freq_hist_data_bar_heights, freq_hist_data_bar_values"
    )
    found = []
    for row in rows.iterator(chunk_size=2000):
        (near, _), (partners,) = unpack_ranked(bytes(row.feature.neighbours), 2), unpack_ranked(bytes(row.partners))
        up, down = unpack_ranked(bytes(row.feature.logits), 2)
        histogram = unpack_histogram(bytes(row.histogram))
        own = (model, layer, str(row.index), run.sae.slug, CREATOR, row.max_activation, False, run.sae.hook)
        ranked = (near.ids.tolist(), near.values.tolist(), partners.ids.tolist(), partners.values.tolist())
        logits = (_texts(tokens, down.ids), down.values.tolist(), _texts(tokens, up.ids), up.values.tolist())
        bars = (row.density, histogram.counts.astype(float).tolist(), histogram.edges[:-1].tolist())
        found.append((*own, *ranked, *logits, *bars))
    with cursor.copy(f'COPY {SCHEMA}."Neuron" ({names}) FROM STDIN') as copy:
        for values in found:
            copy.write_row(values)


def _activations(run: Run, cursor: Any) -> None:
    """COPY has the connection to itself, so everything that the rows are made of is read first."""
    names = [_text(name.encode()) for name in (*source_of(run), run.corpus.slug)]
    contexts = _contexts(run)
    packed = Activity.objects.filter(run=run).order_by("index").values_list("index", "max_activation", "examples")
    features = [(index, maximum, bytes(blob)) for index, maximum, blob in packed.iterator(chunk_size=2000)]
    with cursor.copy(f'COPY {SCHEMA}."Activation" FROM STDIN (FORMAT BINARY)') as copy:
        copy.write(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        rows = _activation_rows(names, features, contexts)
        while part := list(islice(rows, CHUNK)):
            copy.write(b"".join(part))
        copy.write(struct.pack(">h", -1))


def _contexts(run: Run) -> dict[int, tuple[int, bytes]]:
    """By number: how many tokens, and the array of them as COPY takes it."""
    tokens = tokens_of(run.sae.model)
    found = {}
    for number, blob in Context.objects.filter(run=run).values_list("number", "token_ids"):
        texts = [text.encode() for text in _texts(tokens, unpack_tokens(bytes(blob)))]
        body = struct.pack(">iiIii", 1, 0, TEXTS, len(texts), 1) + b"".join(map(_text, texts))
        found[number] = (len(texts), struct.pack(">i", len(body)) + body)
    return found


def _texts(tokens: Tokens, ids: NDArray[np.integer]) -> list[str]:
    """PostgreSQL has no place for the character NUL."""
    return [text.replace("\0", "") for text in tokens.texts(ids)]


def _text(value: bytes) -> bytes:
    return struct.pack(">i", len(value)) + value


def _activation_rows(
    names: Sequence[bytes], features: Sequence[tuple[int, float, bytes]], contexts: dict[int, tuple[int, bytes]]
) -> Iterator[bytes]:
    (model, layer, source), creator = names, _text(CREATOR.encode())
    stamp = struct.pack(">iq", 8, MICROSECONDS)
    dfa, empty = NO_FLOATS + NULL + NULL, NO_FLOATS + NULL
    n = 0
    for index, maximum, blob in features:
        own = model + layer + _text(str(index).encode())
        examples = list(unpack_examples(blob))
        shares = np.bincount([example.band for example in examples], minlength=len(BANDS)) / max(1, len(examples))
        for example in examples:
            length, tokens = contexts[example.context]
            values = example.dense(length)
            top, peak = float(values.max()), int(values.argmax())
            place = struct.pack(">idiiid", 8, top, 4, peak, 8, 0.0)
            bins = (-1.0, -1.0, -1.0) if example.band == 0 else _bin(example.band, maximum, float(shares[example.band]))
            qualifying = struct.pack(">ididid", 8, bins[0], 8, bins[1], 8, bins[2]) + struct.pack(
                ">ii", 4, example.peak
            )
            name, number = _text(b"c%024x" % n), _text(b"%d" % example.context)
            yield b"".join(
                (
                    b"\0\x16",
                    name,
                    own,
                    tokens,
                    _floats(values),
                    place,
                    number,
                    source,
                    dfa,
                    qualifying,
                    empty,
                    creator,
                    stamp,
                )
            )
            n += 1


def _bin(band: int, maximum: float, share: float) -> tuple[float, float, float]:
    return maximum * (4 - band) / 4, maximum * (5 - band) / 4, share


def _floats(row: NDArray[np.float32]) -> bytes:
    """An array of doubles as COPY takes it."""
    body = np.empty(len(row), [("size", ">i4"), ("value", ">f8")])
    body["size"], body["value"] = 8, row
    head = struct.pack(">iiIii", 1, 0, FLOATS, len(row), 1)
    return struct.pack(">i", len(head) + body.nbytes) + head + body.tobytes()


def _explanations(run: Run, cursor: Any) -> None:
    model, layer = source_of(run)
    labels = Label.objects.filter(feature__sae=run.sae_id).order_by("pk")
    found = labels.values_list(
        "pk", "feature__index", "text", "explanation", "author_id", "explainer", "method", "rule"
    )
    rows = [
        (f"c{pk:024x}", model, layer, str(index), f"{text} {about}".strip(), str(author or ""), who, how or rule)
        for pk, index, text, about, author, who, how, rule in found.iterator(chunk_size=2000)
    ]
    names = 'id, "modelId", layer, "index", description, "authorId", "explanationModelName", "typeName"'
    with cursor.copy(f'COPY {SCHEMA}."Explanation" ({names}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row(row)
