"""Language models, and one of them as a grid of hook points with the SAEs that read there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from features.evidence import find_model
from features.models import LanguageModel
from features.selectors import Placed, placed_on


@dataclass(frozen=True)
class Column:
    """A hook point: the layers that have it, and how wide its activations are there."""

    hook: str
    widths: list[int]
    layers: frozenset[int]


@dataclass(frozen=True)
class Router:
    """What sends each token to ``per_token`` of ``n_experts`` in each of ``layers``."""

    layers: frozenset[int]
    n_experts: int
    per_token: int


@dataclass(frozen=True)
class Cell:
    """``exists``: the layer has this hook point."""

    exists: bool
    placed: list[Placed]


@dataclass(frozen=True)
class Row:
    layer: int
    cells: list[Cell]
    router: Router | None


@dataclass(frozen=True)
class Grid:
    """Layers by hook points; ``elsewhere`` are SAEs that read at none of them."""

    columns: list[Column]
    routers: list[Router]
    rows: list[Row]
    elsewhere: list[Placed]


@require_safe
def model_list(request: HttpRequest) -> HttpResponse:
    models = LanguageModel.objects.annotate(n_saes=Count("saes")).order_by("name")
    return render(request, "features/models.html", {"models": models})


@require_safe
def model_page(request: HttpRequest, slug: str) -> HttpResponse:
    model = find_model(slug)
    placed = placed_on(model)
    return render(request, "features/model.html", {"model": model, "grid": grid(model, placed), "n_saes": len(placed)})


def grid(model: LanguageModel, placed: Sequence[Placed]) -> Grid:
    """Columns in the order in which the model's hook points were registered."""
    columns = _columns([point for point in model.hook_points if "hook" in point])
    routers = [_router(point["router"]) for point in model.hook_points if "router" in point]
    hooks = {column.hook for column in columns}
    here: dict[tuple[int, str], list[Placed]] = {}
    elsewhere = []
    for p in placed:
        if p.sae.hook in hooks and p.sae.layer < model.n_layers:
            here.setdefault((p.sae.layer, p.sae.hook), []).append(p)
        else:
            elsewhere.append(p)
    rows = [
        Row(
            layer,
            [Cell(layer in column.layers, here.get((layer, column.hook), [])) for column in columns],
            next((router for router in routers if layer in router.layers), None),
        )
        for layer in range(model.n_layers)
    ]
    return Grid(columns, routers, rows if columns else [], elsewhere)


def _columns(points: Sequence[dict[str, Any]]) -> list[Column]:
    """A hook whose width differs by layer is one column of several points."""
    by_hook: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        by_hook.setdefault(point["hook"], []).append(point)
    return [
        Column(hook, [point["width"] for point in same], frozenset().union(*map(_layers, same)))
        for hook, same in by_hook.items()
    ]


def _router(point: dict[str, Any]) -> Router:
    return Router(_layers(point), point["n_experts"], point["per_token"])


def _layers(point: dict[str, Any]) -> frozenset[int]:
    """Two numbers are the first and the last of a run; any other number of them are the layers themselves."""
    numbers = point["layers"]
    return frozenset(range(numbers[0], numbers[1] + 1) if len(numbers) == 2 else numbers)
