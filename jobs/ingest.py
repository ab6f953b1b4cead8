"""Write what an extraction found into the feature database, all of it in one transaction or nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Q
from numpy.typing import NDArray

from features import shown_labels, vectors
from features.models import Activity, Columns, Context, Feature, Label, Run
from features.models.run import DENSE, VERY_DENSE
from features.search.contexts import index_run
from features.search.phrases import remember
from jobs import bulk, packing
from jobs.engine import decoder
from jobs.engine.cooccurrence import partners
from jobs.engine.corpus import CorpusFacts
from jobs.engine.cross_entropy import CrossEntropy
from jobs.engine.examples import NEAR, Selection, select_examples
from jobs.engine.experts import chosen_experts
from jobs.engine.labels import Labeller, RuleLabel
from jobs.engine.model import LoadedModel
from jobs.engine.points import Point
from jobs.engine.quality import Quality
from jobs.engine.saes import SAE
from jobs.engine.state import State
from jobs.engine.statistics import N_BINS
from jobs.engine.tokens import TokenisedCorpus
from jobs.models import Job
from jobs.packing import Lists, Statistics, Tables, Weights
from jobs.progress import Progress, Stopped
from jobs.registry import Registered, register, unknown_points


@dataclass(frozen=True)
class Findings:
    """What a run found, and what it was made from.

    ``point`` and ``point_out`` are the capture's, ``router_layer`` too; ``work`` says what each shard took.
    """

    model: LoadedModel
    sae: SAE
    sae_source: str
    point: Point
    point_out: Point | None
    corpus: CorpusFacts
    corpus_source: str
    contexts: TokenisedCorpus
    state: State
    quality: Quality
    settings: dict[str, Any]
    provenance: dict[str, Any]
    seconds: float
    why_not_valid: list[str]
    cross_entropy: CrossEntropy | None = None
    router_layer: int | None = None
    work: list[dict[str, Any]] = field(default_factory=list)

    @property
    def n_firing(self) -> NDArray[np.int64]:
        return np.asarray(self.state.sums.n_firing.cpu())


def ingest(findings: Findings, job: Job, progress: Progress) -> Run:
    """Make the Run and everything that belongs to it. Slow computing comes first, outside the transaction."""
    tables = compute(findings, progress)
    points = unknown_points(findings.model)
    vectors.keep(vectors.place(findings.sae.digest), progress.pulse(decoder_rows(findings.sae)))
    progress.stage("writing to the database")
    with transaction.atomic():
        rows = _register(findings, points)
        run = _write_run(findings, rows, job)
        write(run, tables, new_sae=rows.new_sae)
        # The job ends with its run: one that was cancelled or taken over meanwhile leaves nothing behind.
        if not Job.objects.finish(job.pk, progress.worker, run):
            raise Stopped
    return run


def _register(found: Findings, points: list[dict[str, Any]]) -> Registered:
    sae = (found.sae, found.sae_source, found.point, found.point_out)
    return register(found.model, points, *sae, found.corpus, found.corpus_source)


def compute(findings: Findings, progress: Progress) -> Tables:
    """What the tables hold, as plain arrays."""
    selection = select_examples(findings.state, findings.settings["per_band"], findings.settings["seed"])
    progress.stage("working out logit effects and neighbours")
    weights = weights_of(findings.model, findings.sae, findings.point_out or findings.point, progress)
    progress.stage("finding what fires together")
    ids, overlaps = partners(*findings.state.pool.firings(), findings.state.d_sae)
    progress.stage("labelling by rule")
    return Tables(
        weights=weights,
        statistics=_statistics(findings),
        selection=selection,
        partners=Lists(ids[:, None], overlaps[:, None]),
        labels=list(rule_labels(findings, selection, weights.logits.ids[:, 0], progress)),
        contexts=findings.contexts,
        experts=expert_lists(findings.state),
    )


def weights_of(model: LoadedModel, sae: SAE, written: Point, progress: Progress) -> Weights:
    """Logit effects and neighbours, a chunk of features at a time. ``written``: where the SAE's output belongs."""
    return Weights(
        logits=_lists(progress.pulse(decoder.logit_effects(model, sae, written))),
        neighbours=_lists(progress.pulse(decoder.neighbours(sae))),
        norms=decoder.decoder_norms(sae).numpy(),
        cosines=decoder.encoder_decoder_cosine(sae).numpy(),
    )


def decoder_rows(sae: SAE) -> Iterator[NDArray[np.float32]]:
    """Its decoder, vectors.ROWS rows at a time."""
    starts = range(0, sae.d_sae, vectors.ROWS)
    return (sae.W_dec[start : start + vectors.ROWS].float().cpu().numpy() for start in starts)


def _lists(chunks: Iterator[decoder.RankedChunk]) -> Lists:
    """Ids as int32: half the memory, and enough for any vocabulary."""
    parts = [(chunk.ids.numpy().astype(np.int32), chunk.values.numpy()) for chunk in chunks]
    ids, values = zip(*parts, strict=True)
    return Lists(np.concatenate(ids), np.concatenate(values))


def _statistics(findings: Findings) -> Statistics:
    sums = findings.state.sums
    return Statistics(
        n_tokens=findings.quality.n_tokens,
        n_firing=findings.n_firing,
        n_contexts=sums.n_contexts.cpu().numpy(),
        totals=sums.totals().cpu().numpy(),
        histograms=sums.histogram.cpu().numpy().reshape(-1, N_BINS),
    )


def expert_lists(state: State) -> Lists | None:
    """Of each feature the experts by share and by lift; None where there are no routers."""
    if state.experts is None:
        return None
    ids, share, lift = (column.numpy() for column in chosen_experts(state.experts, state.sums.n_firing))
    return Lists(np.stack([ids, ids], axis=1), np.stack([share, lift], axis=1))


def router_record(state: State, layer: int | None) -> dict[str, Any] | None:
    """How the router of ``layer`` chose over all of the run's tokens; None where there are no routers."""
    sums = state.experts
    if sums is None:
        return None
    shares = (sums.chosen.double() / sums.n_tokens.clamp_min(1)).tolist()
    return {
        "router_layer": layer,
        "n_experts": len(shares),
        "per_token": round(sum(shares)),
        "shares": shares,
    }


def rule_labels(
    findings: Findings, selection: Selection, top_logits: NDArray[np.integer], progress: Progress
) -> Iterator[tuple[int, RuleLabel]]:
    """A label by rule for every feature that has enough examples for one: those in which it fires."""
    fires = selection.band < NEAR
    feature, context, peak = (getattr(selection.rows, name)[fires] for name in ("feature", "context", "peak"))
    tokenizer = findings.model.tokenizer
    vocabulary = [tokenizer.decode([i]) for i in range(len(tokenizer))]
    numbers = progress.pulse(np.unique(context).tolist())
    labeller = Labeller(vocabulary, numbers, lambda number: findings.contexts[number].token_ids)
    return progress.pulse(labeller.labels(feature, context, peak, top_logits))


def write(run: Run, tables: Tables, *, new_sae: bool) -> None:
    """Everything that belongs to ``run``, and the features of an SAE that has none yet. Needs a transaction."""
    keys = bulk.reserve(Label, len(tables.labels))
    if new_sae:
        shown = dict(zip((index for index, _ in tables.labels), keys, strict=True))
        bulk.insert(Feature, packing.FEATURE, packing.feature_rows(run.sae_id, tables.weights, shown))
    features = list(Feature.objects.filter(sae=run.sae_id).order_by("index").values_list("pk", flat=True))
    bulk.insert(Activity, packing.ACTIVITY, packing.activity_rows(run.pk, tables, features))
    bulk.insert(Context, packing.CONTEXT, packing.context_rows(run.pk, tables))
    Columns.objects.create(run=run, packed=packing.columns(tables))
    index_run(run.pk, run.revision)
    _write_labels(run, tables, keys, features)
    if not new_sae:
        _show_labels(run, {features[index]: key for key, (index, _) in zip(keys, tables.labels, strict=True)})
    shown_labels.changed(run.sae_id)


def _write_run(findings: Findings, rows: Registered, job: Job) -> Run:
    n_documents, n_contexts, n_special, n_sinks = (int(n) for n in findings.state.counts)
    density = findings.n_firing / findings.quality.n_tokens
    quality = findings.quality
    return Run.objects.create(
        sae=rows.sae,
        corpus=rows.corpus,
        owner_id=job.owner_id,
        settings=findings.settings,
        provenance=findings.provenance,
        seed=findings.settings["seed"],
        n_documents=n_documents,
        n_contexts=n_contexts,
        n_tokens=quality.n_tokens,
        n_special=n_special,
        n_sinks=n_sinks,
        n_alive=int((density > 0).sum()),
        n_dense=int((density > DENSE).sum()),
        n_very_dense=int((density > VERY_DENSE).sum()),
        n_pool_tokens=findings.state.pool.n_tokens,
        explained_variance=quality.explained_variance,
        fvu=quality.fvu,
        cosine=quality.cosine,
        shrinkage=quality.shrinkage,
        l0=quality.l0,
        **_cross_entropy_columns(findings.cross_entropy),
        valid=not findings.why_not_valid,
        why_not_valid="\n".join(findings.why_not_valid),
        experts=router_record(findings.state, findings.router_layer),
        seconds=findings.seconds,
        work=findings.work,
    )


def _cross_entropy_columns(found: CrossEntropy | None) -> dict[str, Any]:
    """Null, all of them, where it was not measured."""
    if found is None:
        return {}
    return {
        "n_ce_contexts": found.n_contexts,
        "n_ce_tokens": found.n_tokens,
        "ce_original": found.original,
        "ce_reconstructed": found.reconstructed,
        "ce_ablated": found.ablated,
        "ce_delta": found.delta,
        "ce_delta_error": found.delta_error,
        "ce_recovered": found.recovered,
        "kl_reconstructed": found.kl_reconstructed,
        "kl_ablated": found.kl_ablated,
        "kl_recovered": found.kl_recovered,
    }


def _write_labels(run: Run, tables: Tables, keys: list[int], features: list[int]) -> None:
    bulk.insert(Label, packing.LABEL, packing.label_rows(run.pk, tables, keys, features))
    remember(bulk.clean(label.text) or "" for _, label in tables.labels)


def _show_labels(run: Run, new: dict[int, int]) -> None:
    """``new`` labels, by the feature's key, replace older ones by rule if the run is valid; a person's label stays."""
    kept = Q(label__source=Label.Source.PERSON) if run.valid else Q(label__isnull=False)
    locked = Feature.objects.select_for_update(of=("self",)).filter(sae=run.sae_id)
    open_to_rules = locked.exclude(kept).values_list("pk", flat=True)
    bulk.update(Feature, "label", [(pk, new[pk]) for pk in open_to_rules if pk in new])
