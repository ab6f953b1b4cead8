"""A feature's direction, to steer with or to compare."""

from typing import Any

import numpy as np
from django.http import HttpRequest
from ninja import Router, Schema
from pydantic import Field

from features.api import schemas
from features.api.auth import viewer
from features.evidence import find_feature, find_sae
from features.vectors import vector_of

router = Router(tags=["SAEs"])


class VectorOut(Schema):
    sae: str
    index: int
    hook: str = Field(description="where the vector belongs: the hook point that the SAE writes to")
    layer: int
    norm: float
    vector: list[float] = Field(description="the decoder row, float32: what one unit of activation adds")


@router.get(
    "/saes/{slug}/features/{index}/vector",
    auth=viewer,
    response={200: VectorOut, 401: schemas.Problem, 404: schemas.Problem, 422: schemas.Problem},
    summary="One feature's decoder vector",
)
def get_vector(request: HttpRequest, slug: str, index: int) -> dict[str, Any]:
    sae = find_sae(slug)
    vector = vector_of(sae, find_feature(sae, index).index)
    return {
        "sae": sae.slug,
        "index": index,
        "hook": sae.hook_out or sae.hook,
        "layer": sae.layer if sae.layer_out is None else sae.layer_out,
        "norm": float(np.linalg.norm(vector)),
        "vector": vector.tolist(),
    }
