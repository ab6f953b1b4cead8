"""What this project's own export keeps beside Neuronpedia's files, into the spool: see ``notes_out``."""

import base64
import binascii
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.store.examples import BANDS, NEAR_MISS, SILENT, Examples, pack_examples
from features.store.histogram import Histogram, pack_edges
from features.store.ranked import Ranked, pack_ranked
from jobs.bulk import clean
from jobs.transfer.faults import Refused
from jobs.transfer.records import (
    MAX_BARS,
    MAX_EXPLANATION,
    MAX_INDEX,
    MAX_LISTED,
    MAX_TOKENS,
    count,
    index_of,
    number,
    real_numbers,
    share,
    text,
    whole_numbers,
)
from jobs.transfer.spool import MAX_EXAMPLES, Spool

_TOKEN_IDS = 1 << 32
_SOURCES = ("rule", "person", "model")


def read_tokens(record: dict[str, Any], spool: Spool) -> None:
    """{first, tokens}: the bytes of tokens from number ``first`` on, in base64."""
    first, listed = count(record, "first"), record.get("tokens")
    if first is None or not isinstance(listed, list):
        raise Refused("it has no first and no tokens")
    for offset, raw in enumerate(listed):
        try:
            spool.put_token(first + offset, base64.b64decode(raw, validate=True))
        except (binascii.Error, ValueError, TypeError) as error:
            raise Refused(f"token {first + offset} is not base64") from error


def read_context(record: dict[str, Any], spool: Spool) -> None:
    """{number, document: [id, source], offset, token_ids}."""
    context, offset = count(record, "number"), count(record, "offset")
    if context is None or offset is None or offset >= 1 << 31:
        raise Refused("it has no number or no offset")
    document = record.get("document")
    if not isinstance(document, list) or [type(part) for part in document] != [str, str]:
        raise Refused("its document is no pair of texts")
    ids = whole_numbers(record.get("token_ids"), "token_ids", MAX_TOKENS, _TOKEN_IDS)
    spool.put_context(context, ids, ((clean(document[0]) or "")[:200], (clean(document[1]) or "")[:200]), offset)


def read_own(record: dict[str, Any], spool: Spool) -> None:
    """A feature with all that its page shows."""
    index = index_of(record)
    labels = record.get("labels") or []
    if not isinstance(labels, list) or not all(isinstance(label, dict) for label in labels):
        raise Refused("its labels are no list of objects")
    bodies = {text(label, "id", 100): _label(label) for label in labels}
    if len(bodies) < len(labels):
        raise Refused("two of its labels have one id")
    top, bottom = (_ranked(record, name, _TOKEN_IDS) for name in ("top_logits", "bottom_logits"))
    near = [_ranked(record, name, MAX_INDEX + 1) for name in ("neighbours", "encoder_neighbours")]
    experts = [_ranked(record, name, 1 << 16) for name in ("experts", "expert_lifts")]
    spool.feature(
        (
            index,
            1,
            share(record, "density"),
            count(record, "n_firing"),
            count(record, "n_contexts"),
            number(record, "max_activation"),
            _figure(record, "mean_activation"),
            _figure(record, "decoder_norm"),
            _figure(record, "encoder_decoder_cosine"),
            pack_edges(_histogram(record)),
            pack_ranked(top, bottom),
            pack_ranked(*near),
            pack_ranked(_ranked(record, "partners", MAX_INDEX + 1)),
            pack_ranked(*experts) if record.get("experts") is not None else b"",
            pack_examples(_examples(record, spool)),
        )
    )
    for key, body in bodies.items():
        spool.label(index, key, body)


def _figure(record: dict[str, Any], key: str) -> float | None:
    return None if record.get(key) is None else number(record, key)


def _histogram(record: dict[str, Any]) -> Histogram:
    found = record.get("histogram")
    if not isinstance(found, dict):
        raise Refused("it has no histogram")
    edges = real_numbers(found.get("edges"), "histogram's edges", MAX_BARS + 1)
    counts = whole_numbers(found.get("counts"), "histogram's counts", MAX_BARS, 1 << 62)
    if len(edges) != len(counts) + (len(counts) > 0) or np.any(np.diff(edges) <= 0) or np.any(edges < 0):
        raise Refused("the edges of its histogram do not ascend, or are not one more than its counts")
    return Histogram(edges, counts.astype(np.uint64))


def _ranked(record: dict[str, Any], key: str, below: int) -> Ranked:
    """{ids, values}; nothing if it is absent."""
    found = record.get(key)
    if found is None:
        return Ranked(np.empty(0, np.int64), np.empty(0, np.float32))
    if not isinstance(found, dict):
        raise Refused(f"its {key} is no object")
    ids = whole_numbers(found.get("ids"), key, MAX_LISTED, below)
    values = real_numbers(found.get("values"), key, MAX_LISTED)
    if len(ids) != len(values):
        raise Refused(f"its {key} has {len(ids):,} ids and {len(values):,} values")
    return Ranked(ids, values)


def _examples(record: dict[str, Any], spool: Spool) -> Examples:
    """[context, band, positions, values] each, in the order in which they are shown."""
    listed = record.get("examples")
    if not isinstance(listed, list) or len(listed) > 2 * MAX_EXAMPLES:
        raise Refused(f"its examples are no list of at most {2 * MAX_EXAMPLES}")
    contexts, bands, lengths, positions, values = [], [], [], [], []
    for example in listed:
        context, band, where, strengths = _example(example, spool)
        contexts.append(context)
        bands.append(band)
        lengths.append(len(where))
        positions.append(where)
        values.append(strengths)
    if bands != sorted(bands):
        raise Refused("its examples are not in the order of their bands")
    none = np.empty(0, np.int64)
    return Examples(
        np.array(contexts, np.int64),
        np.array(bands, np.int64),
        np.cumsum(lengths, dtype=np.int64),
        np.concatenate([none, *positions]),
        np.concatenate([none.astype(np.float32), *values]),
    )


def _example(example: object, spool: Spool) -> tuple[int, int, NDArray[np.int64], NDArray[np.float32]]:
    if not isinstance(example, list) or len(example) != 4 or [type(n) for n in example[:2]] != [int, int]:
        raise Refused("an example is no list of context, band, positions and values")
    context, band = example[:2]
    length = spool.length_of(context) if 0 <= context < 1 << 62 else 0
    if not 0 <= band < len(BANDS) or not length:
        raise Refused(f"its example in context {context}, band {band}: there is no such context or band")
    where = whole_numbers(example[2], "positions", MAX_TOKENS, length)
    strengths = real_numbers(example[3], "values", MAX_TOKENS)
    wanted = {NEAR_MISS: len(where) == 1, SILENT: not len(where)}.get(band, len(where) > 0 and (strengths > 0).all())
    if not wanted or len(where) != len(strengths) or np.any(np.diff(where) <= 0):
        raise Refused(f"its example in context {context} has positions and values that do not fit its band")
    return context, band, where, strengths


def _label(record: dict[str, Any]) -> dict[str, Any]:
    said, source = text(record, "text", 500), text(record, "source", 10)
    if not said or source not in _SOURCES:
        raise Refused("a label has no text or no source")
    held_out = count(record, "n_held_out")
    precision = _figure(record, "precision")
    if source == "rule" and (precision is None or held_out is None or held_out >= 1 << 31):
        raise Refused("a label by rule does not say how precise it is")
    return {
        "text": said,
        "explanation": text(record, "explanation", MAX_EXPLANATION),
        "source": source,
        "rule": text(record, "rule", 20) or ("rule" if source == "rule" else ""),
        "precision": precision,
        "n_held_out": held_out,
        "method": text(record, "method", 100),
        "explainer": text(record, "explainer", 200),
        "author": text(record, "author", 200),
        "shown": record.get("shown") is True,
        "created_at": text(record, "created_at", 40),
    }
