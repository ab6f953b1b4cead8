"""Rows for the models, SAEs and corpora that a run used: found by their digests, made where they are new."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import models
from django.utils.text import slugify

from features.models import SAE as SAERow
from features.models import Corpus, LanguageModel, Vocabulary
from features.store.contexts import pack_ids
from jobs.engine.corpus import CorpusFacts
from jobs.engine.demo_text import DEMO_PROVENANCE
from jobs.engine.model import LoadedModel
from jobs.engine.saes import SAE
from jobs.engine.vocabulary import token_bytes

MAX_RECORD_BYTES = 1 << 20


@dataclass(frozen=True)
class Registered:
    """``new_sae``: its features are still to be written."""

    model: LanguageModel
    sae: SAERow
    corpus: Corpus
    new_sae: bool


def register(model: LoadedModel, sae: SAE, sae_source: str, corpus: CorpusFacts, corpus_source: str) -> Registered:
    """The rows of what was loaded. Call it in the transaction that writes the run: half of it is never seen."""
    model_row = register_model(model)
    sae_row, new = register_sae(sae, sae_source, model_row)
    return Registered(model_row, sae_row, register_corpus(corpus, corpus_source), new)


def register_model(model: LoadedModel) -> LanguageModel:
    row, new = LanguageModel.objects.get_or_create(
        weights_digest=model.weights_digest,
        tokenizer_digest=model.tokenizer_digest,
        defaults={
            "slug": free_slug(LanguageModel, model.name),
            "name": model.name[:200],
            "source": model.source,
            "revision": model.revision,
            "architecture": model.architecture,
            "n_layers": model.n_layers,
            "d_model": model.d_model,
            "vocab_size": model.vocab_size,
        },
    )
    if new:
        tokens = token_bytes(model)
        Vocabulary.objects.create(
            model=row,
            raw=tokens.raw,
            ends=pack_ids(tokens.ends),
            special_ids=pack_ids(sorted(model.special_ids)),
            joiner=tokens.joiner,
        )
    _found_again(row, model.source)
    return row


def register_sae(sae: SAE, source: str, model: LanguageModel) -> tuple[SAERow, bool]:
    hook, layer = sae.hook_point()
    name = f"{model.name} · L{layer} {hook} · {sae.d_sae:,}"
    row, new = SAERow.objects.get_or_create(
        digest=sae.digest,
        model=model,
        hook=hook,
        layer=layer,
        k=sae.k,
        defaults={
            "slug": free_slug(SAERow, f"{model.slug}-l{layer}-{hook}-{sae.d_sae}"),
            "name": name[:200],
            "source": source,
            "architecture": sae.architecture,
            "format": sae.format,
            "d_in": sae.d_in,
            "d_out": sae.d_out,
            "d_sae": sae.d_sae,
            "training": training_record(Path(source)),
        },
    )
    _found_again(row, source)
    return row, new


def register_corpus(facts: CorpusFacts, source: str) -> Corpus:
    name = Path(source).name
    stem = name.split(".")[0]
    row, _ = Corpus.objects.get_or_create(
        digest=facts.digest,
        defaults={
            "slug": free_slug(Corpus, stem),
            "name": name[:200],
            "source": source,
            "n_documents": facts.n_documents,
            "n_bytes": facts.n_bytes,
        }
        | (DEMO_PROVENANCE if stem in {"demo", "demo-train"} else {}),
    )
    _found_again(row, source)
    return row


def training_record(folder: Path) -> dict[str, Any]:
    """``training.json`` beside the weights, if it can be read: other people's records may be anything."""
    path = folder / "training.json"
    try:
        if path.stat().st_size > MAX_RECORD_BYTES:
            return {}
        record = json.loads(path.read_text())
        text = json.dumps(record, allow_nan=False)
    except (OSError, ValueError, RecursionError):
        return {}
    # PostgreSQL's JSON holds neither U+0000 nor lone surrogates.
    storable = isinstance(record, dict) and not re.search(r"\\u(0000|d[89a-f])", text)
    return record if storable else {}


def _found_again(row: Any, source: str) -> None:
    """What was moved keeps its digest: remember where it was read last."""
    if row.source != source:
        row.source = source
        row.save(update_fields=["source"])


def free_slug(kind: type[models.Model], text: str) -> str:
    """A slug made from ``text`` that no row of ``kind`` has."""
    base = slugify(text.replace(".", "-").replace("_", "-"))[:100] or "unnamed"
    taken = set(kind._default_manager.filter(slug__startswith=base).values_list("slug", flat=True))
    slug, number = base, 2
    while slug in taken:
        slug, number = f"{base}-{number}", number + 1
    return slug
