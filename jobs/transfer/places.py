"""The rows that an import belongs to: its model and SAE, known by what the files call them, its corpus and its run.

Nothing is guessed to be what is here already: a model of this site keeps apart from one that a file names. Files of one
model share a row, whichever tool wrote them.
"""

import re
from datetime import datetime
from hashlib import sha256
from typing import Any

from django.utils import timezone

from features.models import SAE, Corpus, LanguageModel, Run
from jobs.bulk import clean, storable
from jobs.engine import hook_names
from jobs.slugs import free_slug
from jobs.transfer.layouts import Plan

MAX_COUNT = (1 << 31) - 1
RUN_COUNTS = ("n_documents", "n_contexts", "n_tokens", "n_special", "n_sinks", "n_pool_tokens", "n_ce_tokens")
FIGURES = (
    "explained_variance", "fvu", "cosine", "shrinkage", "l0", "ce_original", "ce_reconstructed", "ce_ablated",
    "ce_delta", "ce_delta_error", "ce_recovered", "kl_reconstructed", "kl_ablated", "kl_recovered",
)  # fmt: skip


def find_sae(plan: Plan) -> SAE | None:
    """The SAE that an earlier import of the same source made."""
    found = SAE.objects.filter(model__weights_digest="", model__source=model_source(plan), digest="")
    return found.filter(source=sae_source(plan)).select_related("model").first()


def find_run(plan: Plan, sae: SAE) -> Run | None:
    """The run that an earlier import from the same place made."""
    found = Run.objects.filter(sae=sae, origin=plan.layout, provenance__imported__key=run_key(plan))
    return found.select_related("sae__model").order_by("-pk").first()


def model_source(plan: Plan) -> str:
    return f"featurescope:{_said(plan, 'model', 'key', 400)}" if plan.note else f"neuronpedia:{plan.source.model}"


def sae_source(plan: Plan) -> str:
    if plan.note:
        return f"featurescope:{_said(plan, 'sae', 'key', 400)}"
    return f"neuronpedia:{plan.source.model}/{plan.source.id}"


def run_key(plan: Plan) -> str:
    return _said(plan, "run", "key", 200)


def make_model(plan: Plan) -> LanguageModel:
    about, note = plan.about.get("model", {}), plan.note.get("model") or {}
    name = _name(note.get("name") or about.get("displayName") or plan.source.model, 200)
    row, _ = LanguageModel.objects.get_or_create(
        source=model_source(plan),
        weights_digest="",
        defaults={
            "slug": free_slug(LanguageModel, plan.source.model),
            "name": name,
            "architecture": _name(note.get("architecture"), 100),
            "n_layers": _count(note.get("n_layers")) or _count(about.get("layers")),
            "d_model": _count(note.get("d_model")) or _count(about.get("dimension")),
            "vocab_size": _count(note.get("vocab_size")),
        },
    )
    return LanguageModel.objects.select_for_update(no_key=True).get(pk=row.pk)


def make_sae(plan: Plan, model: LanguageModel, facts: dict[str, Any], d_sae: int, name: str) -> SAE:
    """``d_sae``: at least so many features. ``name``: what a person calls it, or ""."""
    note = plan.note.get("sae") or {}
    hook, layer = hook_names.parse(facts.get("hook"))
    layer = _count(note["layer"]) if "layer" in note else plan.source.layer if layer is None else layer
    row, _ = SAE.objects.get_or_create(
        model=model,
        source=sae_source(plan),
        digest="",
        defaults={
            "slug": free_slug(SAE, _name(note.get("slug"), 100) or f"{model.slug}-{plan.source.id}"),
            "name": _name(name or note.get("name") or f"{model.name} · {plan.source.id}", 200),
            "architecture": _name(note.get("architecture"), 60),
            "format": _name(note.get("format") or plan.layout, 60),
            "hook": _name(note.get("hook") or hook or plan.source.set_name, 200),
            "layer": min(
                _count(note["layer"]) if "layer" in note else plan.source.layer if layer is None else layer, 9999
            ),
            "hook_out": _name(note.get("hook_out"), 200),
            "layer_out": _count(note.get("layer_out")) if note.get("hook_out") else None,
            "centred": note.get("centred") is True,
            "d_in": _count(note.get("d_in")) or facts.get("width", 0),
            "d_out": _count(note.get("d_out")) or facts.get("width", 0),
            "d_sae": d_sae,
            "k": _count(note.get("k")) or None,
        },
    )
    row = SAE.objects.select_for_update(no_key=True).get(pk=row.pk)
    wanted = max(row.d_sae, d_sae, _count(note.get("d_sae")))
    if wanted > row.d_sae:
        row.d_sae = wanted
        row.save(update_fields=["d_sae"])
    row.model = model
    return row


def make_run(plan: Plan, sae: SAE, facts: dict[str, Any], owner: Any) -> tuple[Run, bool]:
    """The run, and whether it is new. Its counts of features come when they are written."""
    if (found := find_run(plan, sae)) is not None:
        return Run.objects.select_for_update(no_key=True).get(pk=found.pk), False
    note = plan.note.get("run") or {}
    counts = {name: _big(note.get(name)) for name in RUN_COUNTS} if note else _theirs(plan, facts)
    run = Run(
        sae=sae,
        corpus=_corpus(plan, facts),
        owner=owner,
        origin=plan.layout,
        settings=_record(note.get("settings")),
        provenance=_record(note.get("provenance")) | {"imported": _imported(plan)},
        seed=_count(note.get("seed")),
        n_alive=0,
        n_dense=0,
        n_ce_contexts=_count(note.get("n_ce_contexts")),
        valid=note.get("valid") if isinstance(note.get("valid"), bool) else None,
        why_not_valid="\n".join(_name(line, 1_000) for line in _text(note.get("why_not_valid"), 10_000).splitlines()),
        experts=_experts(note.get("experts")),
        seconds=_figure(note.get("seconds")) or 0.0,
        **counts,
        **{name: _figure(note.get(name)) for name in FIGURES},
    )
    run.save(force_insert=True)
    return run, True


def _imported(plan: Plan) -> dict[str, Any]:
    note = plan.note.get("run") or {}
    said = {"key": run_key(plan), "model": plan.source.model, "source": plan.source.id}
    made = {name: _text(note.get(name), 100) for name in ("created_at", "origin") if note.get(name)}
    digests = {name: _text((plan.note.get(part) or {}).get(name), 64) for part, name in _DIGESTS}
    return said | made | {name: digest for name, digest in digests.items() if digest}


_DIGESTS = (("model", "weights_digest"), ("model", "tokenizer_digest"), ("sae", "digest"))


def _theirs(plan: Plan, facts: dict[str, Any]) -> dict[str, int]:
    """Counts of what was read for the dashboards, 0 where nothing says it."""
    source, settings = plan.about.get("source", {}), plan.about.get("settings", {})
    prompts = _big(facts.get("n_prompts_total") or settings.get("n_prompts_total") or source.get("num_prompts"))
    length = _count(
        facts.get("n_tokens_in_prompt") or settings.get("n_tokens_in_prompt") or source.get("num_tokens_in_prompt")
    )
    known = {"n_contexts": prompts, "n_tokens": min(prompts * length, 1 << 62)}
    return dict.fromkeys(RUN_COUNTS, 0) | known


def _corpus(plan: Plan, facts: dict[str, Any]) -> Corpus:
    """By the digest of its bytes where our own export says it, else by its name alone."""
    note = plan.note.get("corpus") or {}
    settings, source = plan.about.get("settings", {}), plan.about.get("source", {})
    named = facts.get("dataset") or settings.get("huggingface_dataset_path") or source.get("dataset")
    name = _name(note.get("name") or named, 200) or "not stated"
    digest = note.get("digest")
    if not (isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest)):
        digest = f"name:{sha256(name.encode()).hexdigest()[:50]}"
    row, _ = Corpus.objects.get_or_create(
        digest=digest,
        defaults={
            "slug": free_slug(Corpus, name),
            "name": name,
            "source": _name(note.get("source") or name, 500),
            "n_documents": _big(note.get("n_documents")),
            "n_bytes": _big(note.get("n_bytes")),
            "origin": _text(note.get("origin"), 2000),
            "licence": _text(note.get("licence"), 500),
        },
    )
    return row


def moment(text: object) -> datetime:
    """When something was made elsewhere; now where that is not said."""
    try:
        found = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        found = None
    return found if found is not None and found.tzinfo is not None else timezone.now()


def _said(plan: Plan, part: str, name: str, limit: int) -> str:
    found = plan.note.get(part)
    return _text(found.get(name), limit) if isinstance(found, dict) else ""


def _text(found: object, limit: int) -> str:
    return (clean(found) or "")[:limit] if isinstance(found, str) else ""


def _name(found: object, limit: int) -> str:
    """A name that stands in titles and lists: of one line, with no character that changes how others read."""
    return "".join(c if c.isprintable() else " " for c in _text(found, limit))


def _count(found: object) -> int:
    return found if type(found) is int and 0 <= found <= MAX_COUNT else 0


def _big(found: object) -> int:
    return found if type(found) is int and 0 <= found < 1 << 62 else 0


def _figure(found: object) -> float | None:
    return (
        float(found) if isinstance(found, int | float) and not isinstance(found, bool) and abs(found) < 1e300 else None
    )


def _record(found: object) -> dict[str, Any]:
    """A record that pages show, its texts as names are."""
    try:
        return _printable(storable(found)) if isinstance(found, dict) else {}
    except RecursionError:
        return {}


def _printable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_name(key, 200): _printable(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_printable(inner) for inner in value]
    return _name(value, 10_000) if isinstance(value, str) else value


def _experts(found: object) -> dict[str, Any] | None:
    """The router's record, if it is one: pages read its keys."""
    if (
        not isinstance(found, dict)
        or type(found.get("router_layer")) is not int
        or not isinstance(found.get("shares"), list)
    ):
        return None
    shares = [_figure(share) for share in found["shares"][:10_000]]
    if None in shares:
        return None
    whole = {name: _count(found.get(name)) for name in ("router_layer", "n_experts", "per_token")}
    return whole | {"shares": shares}
