"""Collections for programs."""

from typing import Any

from django.db.models import Count
from django.http import HttpRequest
from ninja import Router, Status

from features.api import schemas_people as shapes
from features.api.auth import researcher, viewer
from features.api.people import DONE, PROBLEMS, actor, listed
from features.evidence import NotFound
from features.knowledge import collecting
from features.knowledge.collecting import find_collection
from features.knowledge.exporting import rows
from features.models import Collection, CollectionItem

router = Router(tags=["Collections"])
ITEM = "/collections/{slug}/features/{sae}/{index}"


@router.get(
    "/collections", auth=viewer, response={200: list[shapes.CollectionOut], **PROBLEMS}, summary="Own and shared ones"
)
def list_collections(request: HttpRequest) -> Any:
    visible = Collection.objects.visible_to(actor(request)).select_related("owner").annotate(n=Count("items"))
    return [shapes.CollectionOut.of(row, row.n) for row in visible]  # type: ignore[attr-defined]  # annotated


@router.post(
    "/collections", auth=researcher, response={200: shapes.CollectionOut, **PROBLEMS}, summary="Make a collection"
)
def make_collection(request: HttpRequest, body: shapes.CollectionIn) -> Any:
    made = collecting.create(actor(request), body.name, body.description, shared=body.shared)
    return shapes.CollectionOut.of(made, 0)


@router.get(
    "/collections/{slug}",
    auth=viewer,
    response={200: shapes.CollectionDetailOut, **PROBLEMS},
    summary="A collection with its features, in order",
)
def get_collection(request: HttpRequest, slug: str) -> Any:
    found = find_collection(slug, actor(request))
    items = list(rows(found))
    return shapes.CollectionOut.of(found, len(items)) | {"features": items}


@router.patch(
    "/collections/{slug}",
    auth=researcher,
    response={200: shapes.CollectionOut, **PROBLEMS},
    summary="Rename or share it",
)
def edit_collection(request: HttpRequest, slug: str, body: shapes.CollectionPatch) -> Any:
    found = find_collection(slug, actor(request))
    collecting.edit(
        found,
        actor(request),
        name=found.name if body.name is None else body.name,
        description=found.description if body.description is None else body.description,
        shared=found.shared if body.shared is None else body.shared,
    )
    return shapes.CollectionOut.of(found, found.items.count())


@router.delete("/collections/{slug}", auth=researcher, response=DONE, summary="Delete a collection")
def delete_collection(request: HttpRequest, slug: str) -> Any:
    collecting.delete(find_collection(slug, actor(request)), actor(request))
    return Status(204, None)


@router.post(
    "/collections/{slug}/features", auth=researcher, response={200: shapes.AddedOut, **PROBLEMS}, summary="Add features"
)
def add_features(request: HttpRequest, slug: str, body: shapes.FeaturesIn) -> Any:
    found, features = find_collection(slug, actor(request)), listed(body.features)
    new = collecting.add(found, [feature.pk for feature in features], actor(request))
    return {"added": len(new), "there": len(features) - len(new)}


@router.patch(ITEM, auth=researcher, response=DONE, summary="Write a feature's note, or move it up or down")
def change_item(request: HttpRequest, slug: str, sae: str, index: int, body: shapes.ItemIn) -> Any:
    found = find_collection(slug, actor(request))
    item = _item(found, sae, index)
    if body.note is not None:
        collecting.annotate(found, item, body.note, actor(request))
    if body.move is not None:
        collecting.move(found, item, actor(request), up=body.move == "up")
    return Status(204, None)


@router.delete(ITEM, auth=researcher, response=DONE, summary="Take a feature out")
def take_out(request: HttpRequest, slug: str, sae: str, index: int) -> Any:
    found = find_collection(slug, actor(request))
    collecting.remove(found, [_item(found, sae, index).feature_id], actor(request))
    return Status(204, None)


def _item(collection: Collection, sae: str, index: int) -> CollectionItem:
    fits = 0 <= index < 2**31 and "\0" not in sae
    found = collection.items.filter(feature__sae__slug=sae, feature__index=index).first() if fits else None
    if found is None:
        raise NotFound("The collection does not hold this feature.")
    return found
