"""Rows for the models, SAEs and corpora that a run used: found by their digests, made where they are new."""

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.models import SAE as SAERow
from features.models import Corpus, LanguageModel, Vocabulary
from features.store.contexts import pack_ids
from jobs.bulk import storable
from jobs.engine.corpus import CorpusFacts
from jobs.engine.demo_text import DEMO_PROVENANCE
from jobs.engine.model import LoadedModel
from jobs.engine.points import Point, hook_points
from jobs.engine.saes import SAE
from jobs.engine.vocabulary import token_bytes
from jobs.slugs import free_slug

logger = logging.getLogger(__name__)

MAX_RECORD_BYTES = 1 << 20


@dataclass(frozen=True)
class Registered:
    """``new_sae``: its features are still to be written."""

    model: LanguageModel
    sae: SAERow
    corpus: Corpus
    new_sae: bool


def register(
    model: LoadedModel,
    points: list[dict[str, Any]],
    sae: SAE,
    sae_source: str,
    point: Point,
    point_out: Point | None,
    corpus: CorpusFacts,
    corpus_source: str,
) -> Registered:
    """The rows of what was loaded. Call it in the transaction that writes the run: half of it is never seen."""
    model_row = register_model(model, points)
    sae_row, new = register_sae(sae, sae_source, model_row, point, point_out)
    return Registered(model_row, sae_row, register_corpus(corpus, corpus_source), new)


def unknown_points(model: LoadedModel) -> list[dict[str, Any]]:
    """The model's hook points and routers; empty if its row has them. They cost a pass: ask before a transaction."""
    known = LanguageModel.objects.filter(weights_digest=model.weights_digest, tokenizer_digest=model.tokenizer_digest)
    if known.exclude(hook_points=[]).exists():
        return []
    try:
        return hook_points(model)
    except Exception:  # no table on a page is worth a run that has been read
        logger.exception("The hook points of %s could not be listed.", model.name)
        return []


def register_model(model: LoadedModel, points: list[dict[str, Any]]) -> LanguageModel:
    """``points``: of ``unknown_points``."""
    row, new = LanguageModel.objects.get_or_create(
        weights_digest=model.weights_digest,
        tokenizer_digest=model.tokenizer_digest,
        defaults={
            "hook_points": points,
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
    _update(row, source=model.source, revision=model.revision, hook_points=row.hook_points or points)
    return row


def register_sae(
    sae: SAE, source: str, model: LanguageModel, point: Point, point_out: Point | None
) -> tuple[SAERow, bool]:
    """Its row, and whether it is new. ``source`` is what later runs load; a training record lies beside the files.

    ``point`` and ``point_out`` have one word for one place, however the files name it.
    """
    place: dict[str, Any] = {"hook": point.hook, "layer": point.layer, "centred": sae.centred}
    place |= {"hook_out": point_out.hook if point_out else "", "layer_out": point_out.layer if point_out else None}
    card, hooks = storable(sae.card()), SAERow(**place).hooks
    row, new = SAERow.objects.get_or_create(
        digest=sae.digest,
        model=model,
        k=sae.k,
        **place,
        defaults={
            "slug": free_slug(SAERow, f"{model.slug}-l{point.layer}-{hooks.replace('→', 'to')}-{sae.d_sae}"),
            "name": f"{model.name} · L{point.layer} {hooks} · {sae.d_sae:,}"[:200],
            "source": source,
            "card": card,
            "architecture": sae.architecture,
            "format": sae.format,
            "d_in": sae.d_in,
            "d_out": sae.d_out,
            "d_sae": sae.d_sae,
            "training": training_record(sae.source.path),
        },
    )
    _update(row, source=source, card=row.card or card)
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
    _update(row, source=source)
    return row


def training_record(place: Path) -> dict[str, Any]:
    """``training.json`` beside the weights, if it can be read: other people's records may be anything."""
    path = (place.parent if place.is_file() else place) / "training.json"
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


def _update(row: Any, **now: Any) -> None:
    """What was moved keeps its digest: remember where it was read last, and what earlier versions did not write."""
    changed = [name for name, value in now.items() if getattr(row, name) != value]
    for name in changed:
        setattr(row, name, now[name])
    if changed:
        row.save(update_fields=changed)
