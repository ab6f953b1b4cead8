"""Models, SAEs, their features, and one feature with its evidence."""

from typing import Any

from django.db.models import Count
from django.http import HttpRequest
from ninja import Query, Router

from features.api import schemas
from features.api.auth import viewer
from features.evidence import (
    Related,
    ShownExample,
    examples_of,
    experts_of,
    find_activity,
    find_model,
    find_run,
    find_sae,
    logit_effects,
    newest_run,
    newest_runs,
    relatives_of,
)
from features.filters import parse_ids
from features.listing import FeatureListing
from features.models import SAE, Activity, ApiKey, Label, LanguageModel, Run
from features.selectors import placed_on
from features.store.examples import BANDS
from features.store.histogram import unpack_histogram
from features.store.ranked import Ranked
from features.vocabulary import Tokens, tokens_of

router = Router(tags=["SAEs"])
PROBLEMS: dict[int, Any] = {401: schemas.Problem, 404: schemas.Problem, 422: schemas.Problem}


@router.get(
    "/models",
    auth=viewer,
    response={200: list[schemas.ModelSummaryOut], 401: schemas.Problem},
    summary="All models",
    tags=["Models"],
)
def list_models(request: HttpRequest) -> Any:
    return LanguageModel.objects.annotate(n_saes=Count("saes")).order_by("name")


@router.get(
    "/models/{slug}",
    auth=viewer,
    response={200: schemas.ModelDetailOut, **PROBLEMS},
    summary="One model: its hook points and its SAEs",
    tags=["Models"],
)
def get_model(request: HttpRequest, slug: str) -> Any:
    model = find_model(slug)
    saes = [_with(placed.sae, placed.run) for placed in placed_on(model)]
    names = [name for name in schemas.ModelSummaryOut.model_fields if name != "n_saes"]
    known = {name: getattr(model, name) for name in names}
    return known | {"n_saes": len(saes), "hook_points": model.hook_points, "saes": saes}


@router.get("/saes", auth=viewer, response={200: list[schemas.SAEOut], 401: schemas.Problem}, summary="All SAEs")
def list_saes(request: HttpRequest) -> list[SAE]:
    runs = newest_runs()
    return [_with(sae, runs.get(sae.pk)) for sae in SAE.objects.for_listing()]


@router.get("/saes/{slug}", auth=viewer, response={200: schemas.SAEDetailOut, **PROBLEMS}, summary="One SAE")
def get_sae(request: HttpRequest, slug: str) -> SAE:
    sae = find_sae(slug)
    return _with(sae, newest_run(sae))


@router.get(
    "/saes/{slug}/features",
    auth=viewer,
    response={200: schemas.FeaturePage, **PROBLEMS},
    summary="The features of an SAE, by page",
)
def list_features(request: HttpRequest, slug: str, query: Query[schemas.FeatureQuery]) -> dict[str, Any]:
    run = find_run(find_sae(slug), query.run)
    wanted = query.dict(exclude={"after", "limit", "run"}) | {"q": query.q.strip(), "ids": parse_ids(query.ids)}
    page = FeatureListing(**wanted).of(run, _reader(request)).page(query.limit, after=query.after, packed=False)
    return {"items": [_row(activity) for activity in page.items], "next": page.next}


@router.get(
    "/saes/{slug}/features/{index}",
    auth=viewer,
    response={200: schemas.FeatureOut, **PROBLEMS},
    summary="One feature: statistics, histogram, logit effects, related features and contexts",
)
def get_feature(request: HttpRequest, slug: str, index: int, run: int | None = None) -> dict[str, Any]:
    chosen = find_run(find_sae(slug), run)
    return _feature(chosen, find_activity(chosen, index))


def _reader(request: HttpRequest) -> Any:
    """Who asks: a key reads as the person who made it."""
    asked = request.auth  # type: ignore[attr-defined]  # django-ninja puts it there
    return asked.user if isinstance(asked, ApiKey) else asked


def _with(sae: SAE, run: Run | None) -> SAE:
    sae.run = run  # type: ignore[attr-defined]  # where the schema looks for it
    return sae


def _row(activity: Activity) -> dict[str, Any]:
    return {
        "index": activity.index,
        "label": _text_of(activity.feature.label),
        "density": activity.density,
        "max_activation": activity.max_activation,
        "mean_activation": activity.mean_activation,
        "n_contexts": activity.n_contexts,
    }


def _feature(run: Run, activity: Activity) -> dict[str, Any]:
    feature, tokens = activity.feature, tokens_of(run.sae.model)
    histogram = unpack_histogram(bytes(activity.histogram))
    top, bottom = (_effects(ranked, tokens) for ranked in logit_effects(feature))
    relatives, shown = relatives_of(feature, activity), examples_of(run, activity)
    return {
        "sae": run.sae.slug,
        "index": activity.index,
        "label": _label(feature.label),
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
        "histogram": {"edges": histogram.edges.tolist(), "counts": histogram.counts.tolist()},
        "logits": {"top": top, "bottom": bottom},
        "neighbours": [_related(near, "cosine") for near in relatives.decoder],
        "examples": [_example(example, tokens) for example in shown.firing],
        "near_misses": [_near_miss(example, tokens) for example in shown.near_misses],
        "silent": [_context(example, tokens) for example in shown.silent],
        "partners": [_related(partner, "jaccard") for partner in relatives.partners],
        "n_pool_tokens": run.n_pool_tokens,
        "encoder_neighbours": [_related(near, "cosine") for near in relatives.encoder],
        "router_layer": run.experts["router_layer"] if run.experts else None,
        "experts": [{"expert": e.number, "share": e.share, "lift": e.lift} for e in experts_of(activity)],
    }


def _related(related: Related, measure: str) -> dict[str, Any]:
    return {"index": related.feature.index, measure: related.value, "label": _text_of(related.feature.label)}


def _text_of(label: Label | None) -> str | None:
    return label.text if label else None


def _label(label: Label | None) -> dict[str, Any] | None:
    if label is None:
        return None
    return {
        "text": label.text,
        "source": label.source,
        "rule": label.rule,
        "precision": label.precision,
        "n_held_out": label.n_held_out,
        "author": label.author.get_username() if label.author else label.author_name or None,
    }


def _effects(ranked: Ranked, tokens: Tokens) -> list[dict[str, Any]]:
    return [{"token_id": i, "token": tokens.text_of(i), "value": value} for i, value in ranked.pairs()]


def _context(shown: ShownExample, tokens: Tokens) -> dict[str, Any]:
    context, ids = shown.context, shown.token_ids
    return {
        "context_id": context.number,
        "token_ids": ids.tolist(),
        "tokens": tokens.texts(ids),
        "document": {"id": context.document_id, "source": context.document_source},
    }


def _example(shown: ShownExample, tokens: Tokens) -> dict[str, Any]:
    example, context = shown.example, _context(shown, tokens)
    return context | {
        "band": BANDS[example.band],
        "max_value": example.max_value,
        "peak": example.peak,
        "values": example.dense(len(context["token_ids"])).tolist(),
    }


def _near_miss(shown: ShownExample, tokens: Tokens) -> dict[str, Any]:
    example = shown.example
    return _context(shown, tokens) | {"position": example.peak, "pre_activation": example.max_value}
