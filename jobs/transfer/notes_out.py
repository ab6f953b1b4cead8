"""What a run's pages show and Neuronpedia's files cannot say: exact histograms, counts, near misses, tokens' bytes.

featurescope.json                    model, SAE, corpus and run, with their digests and provenance
featurescope/tokens.jsonl.gz         the bytes of all tokens
featurescope/contexts-N.jsonl.gz     every context by its number
featurescope/features-N.jsonl.gz     everything about each feature, labels and who gave them included
"""

import base64
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from django.utils.crypto import salted_hmac

from features.models import SAE, Context, Label, LanguageModel, Run
from features.store.contexts import unpack_tokens
from features.store.examples import unpack_examples
from features.store.histogram import unpack_histogram
from features.store.ranked import Ranked, unpack_ranked
from features.vocabulary import Tokens, tokens_of
from jobs.transfer.layouts import NOTE_VERSION
from jobs.transfer.places import FIGURES, RUN_COUNTS

TOKENS_A_LINE = 1_000
CONTEXTS_A_FILE = 20_000
Record = dict[str, Any]
_MODEL = ("name", "architecture", "n_layers", "d_model", "vocab_size", "weights_digest", "tokenizer_digest")
_SAE = (
    "slug", "name", "architecture", "format", "hook", "layer", "hook_out", "layer_out", "centred", "d_in", "d_out",
    "d_sae", "k", "digest",
)  # fmt: skip
_RUN = (
    *RUN_COUNTS, *FIGURES, "n_ce_contexts", "settings", "provenance", "seed", "valid", "why_not_valid", "experts",
    "seconds", "origin",
)  # fmt: skip
_CORPUS = ("name", "source", "digest", "n_documents", "n_bytes", "origin", "licence")


def site() -> str:
    """Tells this site's numbers from those of others."""
    return salted_hmac("jobs.transfer", "site").hexdigest()[:12]


def note(run: Run, model_id: str, source_id: str) -> Record:
    """featurescope.json: what is known of where the numbers come from."""
    sae, model = run.sae, run.sae.model
    tokens = tokens_of(model)
    model_facts = _facts(model, _MODEL) | {"special_ids": sorted(tokens.special), "joiner": tokens.joiner}
    run_facts = _facts(run, _RUN) | {"created_at": run.created_at.isoformat()}
    return {
        "format": "featurescope",
        "version": NOTE_VERSION,
        "source": {"modelId": model_id, "id": source_id},
        "model": model_facts | {"key": model_key(model)},
        "sae": _facts(sae, _SAE) | {"key": sae_key(sae)},
        "run": run_facts | {"key": run_key(run)},
        "corpus": _facts(run.corpus, _CORPUS),
    }


def _facts(row: Any, names: tuple[str, ...]) -> Record:
    return {name: getattr(row, name) for name in names}


def model_key(model: LanguageModel) -> str:
    """What stays the same wherever the model is exported: its digests, or the source it was imported under."""
    if not model.weights_digest:
        return model.source.removeprefix("featurescope:")
    return f"{model.weights_digest[:32]}/{model.tokenizer_digest[:32]}"


def sae_key(sae: SAE) -> str:
    if not sae.digest:
        return sae.source.removeprefix("featurescope:")
    place = f"{sae.layer}/{sae.hook}/{sae.layer_out}/{sae.hook_out}/{sae.k}/{sae.centred}"
    return f"{sae.digest[:32]}/{place}"[:400]


def run_key(run: Run) -> str:
    imported = run.provenance.get("imported", {}) if run.origin != Run.Origin.EXTRACTION else {}
    return str(imported.get("key") or f"{site()}-{run.pk}")


def label_id(label: Label) -> str:
    return label.outside_id or f"{site()}-{label.pk}"


def author_of(label: Label) -> str:
    return str(label.author.get_username()) if label.author else label.author_name


def token_records(tokens: Tokens) -> Iterator[Record]:
    for first in range(0, len(tokens.ends), TOKENS_A_LINE):
        numbers = range(first, min(first + TOKENS_A_LINE, len(tokens.ends)))
        listed = [base64.b64encode(tokens.bytes_of(i)).decode() for i in numbers]
        yield {"featurescope": "tokens", "first": first, "tokens": listed}


def context_batches(run: Run) -> Iterator[tuple[int, int]]:
    """First and last numbers of CONTEXTS_A_FILE contexts each."""
    first, rows = None, run.contexts.order_by("number").values_list("number", flat=True)
    for place, number in enumerate(rows.iterator(chunk_size=10_000)):
        if place % CONTEXTS_A_FILE == 0:
            if first is not None:
                yield first, number - 1
            first = number
    if first is not None:
        yield first, rows.last() or first


def context_records(run: Run, first: int, last: int) -> Iterator[Record]:
    rows = Context.objects.filter(run=run, number__range=(first, last)).defer("features").order_by("number")
    for row in rows.iterator(chunk_size=500):
        yield {
            "featurescope": "context",
            "number": row.number,
            "document": [row.document_id, row.document_source],
            "offset": row.offset,
            "token_ids": unpack_tokens(bytes(row.token_ids)).tolist(),
        }


def feature_records(rows: Any, labels: Any) -> Iterator[Record]:
    by_feature = groupby(labels.iterator(chunk_size=1_000), lambda label: label.feature.index)
    index, group = next(by_feature, (None, iter(())))
    for activity in rows.select_related("feature").order_by("index").iterator(chunk_size=256):
        mine = list(group) if index == activity.index else []
        if index == activity.index:
            index, group = next(by_feature, (None, iter(())))
        yield _feature(activity) | {"labels": [_label(label) for label in mine]}


def _feature(activity: Any) -> Record:
    feature = activity.feature
    top, bottom = unpack_ranked(bytes(feature.logits), 2)
    near, near_encoder = unpack_ranked(bytes(feature.neighbours), 2)
    (partners,) = unpack_ranked(bytes(activity.partners))
    histogram = unpack_histogram(bytes(activity.histogram))
    examples = unpack_examples(bytes(activity.examples))
    names = ("index", "density", "n_firing", "n_contexts", "max_activation", "mean_activation")
    found = {"featurescope": "own"} | {name: getattr(activity, name) for name in names}
    found |= {name: getattr(feature, name) for name in ("decoder_norm", "encoder_decoder_cosine")}
    if activity.experts:
        shares, lifts = unpack_ranked(bytes(activity.experts), 2)
        found |= {"experts": _ranked(shares), "expert_lifts": _ranked(lifts)}
    return found | {
        "histogram": {"edges": histogram.edges.tolist(), "counts": histogram.counts.tolist()},
        "top_logits": _ranked(top),
        "bottom_logits": _ranked(bottom),
        "neighbours": _ranked(near),
        "encoder_neighbours": _ranked(near_encoder),
        "partners": _ranked(partners),
        "examples": [[e.context, e.band, e.positions.tolist(), e.values.tolist()] for e in examples],
    }


def _ranked(ranked: Ranked) -> Record:
    return {"ids": ranked.ids.tolist(), "values": ranked.values.tolist()}


def _label(label: Label) -> Record:
    names = ("text", "explanation", "source", "rule", "precision", "n_held_out", "method", "explainer")
    return {name: getattr(label, name) for name in names} | {
        "id": label_id(label),
        "author": author_of(label),
        "shown": label.feature.label_id == label.pk,
        "created_at": label.created_at.isoformat(),
    }
