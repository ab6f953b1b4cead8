"""Search by words and by meaning, as the page does it."""

from typing import Any, Literal

from django.http import HttpRequest
from ninja import Field, Query, Router, Schema

from features.api import schemas
from features.api.auth import viewer
from features.search import query as asked
from features.search.hybrid import Reason, search
from features.search.lines import Line, lines
from features.search.scope import find_scope

router = Router(tags=["Search"])
PROBLEMS: dict[int, Any] = {401: schemas.Problem, 404: schemas.Problem, 422: schemas.Problem}


class SearchQuery(Schema):
    """What is searched for, where, and by which ways."""

    q: str = Field(
        description="words, all of which have to be there; the last may be unfinished; quotes hold words together"
    )
    sae: str = Field("", description="slug of the only SAE to search")
    model: str = Field("", description="slug of the model whose SAEs to search")
    mode: Literal["all", "label", "text", "meaning"] = Field(
        "all", description="label: labels and explanations; text: examples; meaning: labels near in meaning"
    )
    limit: int = Field(50, ge=1, le=200)


class ReasonOut(Schema):
    """Why a feature was found."""

    kind: str = Field(description="exact label, label, explanation, example text, or meaning")
    text: str = Field(description="the text that was found, or the part of it around what was found")
    marks: list[tuple[int, int]] = Field(description="the words that were found, as stretches of `text`")
    cosine: float | None = Field(description="of the query and the label; by meaning alone")
    n_contexts: int | None = Field(description="of the contexts that were read, those that the feature cites")


class HitOut(Schema):
    """A feature that was found, with what its SAE's newest run says of it."""

    sae: str
    index: int
    label: str | None
    density: float | None
    max_activation: float | None
    reasons: list[ReasonOut]


class SearchOut(Schema):
    """The best hits first."""

    items: list[HitOut]
    total: int = Field(description="features that were found, more than `items` may hold")
    capped: bool = Field(description="true if so many texts hold these words that not all were read")


@router.get(
    "/search", auth=viewer, response={200: SearchOut, **PROBLEMS}, summary="Features by label, example text or meaning"
)
def search_features(request: HttpRequest, query: Query[SearchQuery]) -> dict[str, Any]:
    parsed = asked.Query.parse(query.q)
    scope = find_scope(query.sae, query.model)
    found = search(parsed, scope, query.mode)
    items = [_hit(line) for line in lines(found.hits[: query.limit], scope)]
    return {"items": items, "total": len(found.hits), "capped": found.capped}


def _hit(line: Line) -> dict[str, Any]:
    feature = line.feature
    return {
        "sae": feature.sae.slug,
        "index": feature.index,
        "label": feature.label.text if feature.label else None,
        "density": line.density,
        "max_activation": line.maximum,
        "reasons": [_reason(reason) for reason in line.reasons],
    }


def _reason(reason: Reason) -> dict[str, Any]:
    marks, at = [], 0
    for piece in reason.pieces:
        if piece.found:
            marks.append((at, at + len(piece.text)))
        at += len(piece.text)
    text = "".join(piece.text for piece in reason.pieces)
    return {"kind": reason.kind, "text": text, "marks": marks, "cosine": reason.cosine, "n_contexts": reason.n_contexts}
