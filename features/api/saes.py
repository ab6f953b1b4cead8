"""SAEs, their features, and one feature with its evidence."""

from dataclasses import asdict
from typing import Any

from django.http import HttpRequest
from ninja import Query, Router

from features.api import schemas
from features.evidence import Evidence, evidence_of, find_run, find_sae, newest_runs
from features.listing import FeatureListing
from features.models import SAE, Activity, Run

router = Router(tags=["SAEs"])
PROBLEMS: dict[int, Any] = {401: schemas.Problem, 404: schemas.Problem, 422: schemas.Problem}


@router.get("/saes", response={200: list[schemas.SAEOut], 401: schemas.Problem}, summary="All SAEs")
def list_saes(request: HttpRequest) -> list[SAE]:
    runs = newest_runs()
    return [_with(sae, runs.get(sae.pk)) for sae in SAE.objects.for_listing()]


@router.get("/saes/{slug}", response={200: schemas.SAEDetailOut, **PROBLEMS}, summary="One SAE")
def get_sae(request: HttpRequest, slug: str) -> SAE:
    sae = find_sae(slug)
    return _with(sae, Run.objects.latest_first().filter(sae=sae).first())


@router.get(
    "/saes/{slug}/features", response={200: schemas.FeaturePage, **PROBLEMS}, summary="The features of an SAE, by page"
)
def list_features(request: HttpRequest, slug: str, query: Query[schemas.FeatureQuery]) -> dict[str, Any]:
    run = find_run(find_sae(slug), query.run)
    listing = FeatureListing(query.order, query.min_density, query.max_density, query.q.strip())
    rows = listing.rows(run).defer("histogram", "examples", "feature__logits", "feature__neighbours")
    page = listing.page(rows, query.limit, after=query.after)
    return {"items": [_row(activity) for activity in page.items], "next": page.next}


@router.get(
    "/saes/{slug}/features/{index}",
    response={200: schemas.FeatureOut, **PROBLEMS},
    summary="One feature: statistics, histogram, logit effects, neighbours and examples",
)
def get_feature(request: HttpRequest, slug: str, index: int, run: int | None = None) -> dict[str, Any]:
    sae = find_sae(slug)
    return _feature(evidence_of(find_run(sae, run), index))


def _with(sae: SAE, run: Run | None) -> SAE:
    sae.run = run  # type: ignore[attr-defined]  # where the schema looks for it
    return sae


def _row(activity: Activity) -> dict[str, Any]:
    label = activity.feature.label
    return {
        "index": activity.index,
        "label": label.text if label else None,
        "density": activity.density,
        "max_activation": activity.max_activation,
        "n_contexts": activity.n_contexts,
    }


def _feature(evidence: Evidence) -> dict[str, Any]:
    run, activity = evidence.run, evidence.activity
    return {
        "sae": run.sae.slug,
        "index": activity.index,
        "label": _label(evidence),
        "run": run.pk,
        "density": activity.density,
        "n_tokens": run.n_tokens,
        "n_contexts": activity.n_contexts,
        "n_contexts_total": run.n_contexts,
        "n_firing": activity.n_firing,
        "max_activation": activity.max_activation,
        "mean_activation": activity.mean_activation,
        "valid": run.valid,
        "why_not_valid": run.why_not_valid,
        "histogram": {"edges": evidence.histogram.edges.tolist(), "counts": evidence.histogram.counts.tolist()},
        "logits": {"top": [asdict(e) for e in evidence.top], "bottom": [asdict(e) for e in evidence.bottom]},
        "neighbours": [asdict(neighbour) for neighbour in evidence.neighbours],
        "examples": _examples(evidence),
    }


def _label(evidence: Evidence) -> dict[str, Any] | None:
    label = evidence.label
    if label is None:
        return None
    return {
        "text": label.text,
        "source": label.source,
        "rule": label.rule,
        "precision": label.precision,
        "n_held_out": label.n_held_out,
        "author": label.author.get_username() if label.author else None,
    }


def _examples(evidence: Evidence) -> list[dict[str, Any]]:
    return [
        {
            "context_id": example.context.number,
            "band": example.band,
            "max_value": example.max_value,
            "peak": example.peak,
            "token_ids": example.token_ids.tolist(),
            "tokens": example.tokens,
            "values": example.values.tolist(),
            "document": {"id": example.context.document_id, "source": example.context.document_source},
        }
        for example in evidence.examples
    ]
