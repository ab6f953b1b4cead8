"""What people say about features, and collections, for programs: a key acts as the person who made it."""

from typing import Any
from uuid import UUID

from django.http import HttpRequest
from ninja import Router, Status

from features.api import schemas
from features.api import schemas_people as shapes
from features.api.auth import researcher, viewer
from features.evidence import NotFound, find_feature, find_sae
from features.knowledge import labelling, notes, people, rules
from features.knowledge.naming import find_named, names_in
from features.models import ApiKey, Comment, Feature, Label

router = Router(tags=["People"])
FEATURE = "/saes/{slug}/features/{index}"
PROBLEMS: dict[int, Any] = dict.fromkeys((401, 403, 404, 422), schemas.Problem)
DONE: dict[int, Any] = {204: None, **PROBLEMS}


@router.get(
    f"{FEATURE}/labels",
    auth=viewer,
    response={200: list[shapes.GivenOut], **PROBLEMS},
    summary="All labels of a feature",
)
def list_labels(request: HttpRequest, slug: str, index: int) -> Any:
    feature = _feature(slug, index)
    labels = people.knowledge_of(feature, actor(request)).labels
    return [shapes.GivenOut.of(label, shown=label.pk == feature.label_id) for label in labels]


@router.post(
    f"{FEATURE}/labels",
    auth=researcher,
    response={200: shapes.BatchOut, **PROBLEMS},
    summary="Label a feature, and show that label",
)
def give_label(request: HttpRequest, slug: str, index: int, body: shapes.LabelIn) -> Any:
    about = body.explanation
    return _batch(labelling.give([_feature(slug, index)], body.text, actor(request), explanation=about), 1)


@router.post(
    "/labels", auth=researcher, response={200: shapes.BatchOut, **PROBLEMS}, summary="Label many features alike"
)
def give_labels(request: HttpRequest, body: shapes.LabelsIn) -> Any:
    rows = listed(body.features)
    return _batch(labelling.give(rows, body.text, actor(request), explanation=body.explanation), len(rows))


@router.post(
    "/labels/{label}/show",
    auth=researcher,
    response={200: shapes.BatchOut, **PROBLEMS},
    summary="Show an older label again",
)
def show_label(request: HttpRequest, label: int) -> Any:
    return _batch(labelling.show(_label(label), actor(request)), 1)


@router.delete(
    f"{FEATURE}/label", auth=researcher, response={200: shapes.BatchOut, **PROBLEMS}, summary="Show no label"
)
def withdraw_label(request: HttpRequest, slug: str, index: int) -> Any:
    return _batch(labelling.withdraw(_feature(slug, index), actor(request)), 1)


@router.put("/labels/{label}/vote", auth=researcher, response=DONE, summary="Vote on a label")
def vote(request: HttpRequest, label: int, body: shapes.VoteIn) -> Any:
    labelling.vote(_label(label), actor(request), body.value)
    return Status(204, None)


@router.get(
    f"{FEATURE}/changes", auth=viewer, response={200: list[shapes.ChangeOut], **PROBLEMS}, summary="What its label was"
)
def list_changes(request: HttpRequest, slug: str, index: int) -> Any:
    changes = people.knowledge_of(_feature(slug, index), actor(request)).changes
    return [shapes.ChangeOut.of(change) for change in changes]


@router.post(
    "/undo",
    auth=researcher,
    response={200: shapes.UndoneOut, **PROBLEMS},
    summary="Undo a batch of labels; undo that to redo",
)
def undo(request: HttpRequest, body: shapes.UndoIn) -> Any:
    return labelling.undo(body.batch, actor(request))


@router.put(f"{FEATURE}/star", auth=viewer, response=DONE, summary="Star a feature")
def star(request: HttpRequest, slug: str, index: int) -> Any:
    notes.star([_feature(slug, index).pk], actor(request))
    return Status(204, None)


@router.delete(f"{FEATURE}/star", auth=viewer, response=DONE, summary="Take the star off")
def unstar(request: HttpRequest, slug: str, index: int) -> Any:
    notes.unstar([_feature(slug, index).pk], actor(request))
    return Status(204, None)


@router.get(f"{FEATURE}/tags", auth=viewer, response={200: list[str], **PROBLEMS}, summary="A feature's tags")
def list_tags(request: HttpRequest, slug: str, index: int) -> Any:
    return people.people_of(_feature(slug, index), actor(request)).tags


@router.post(f"{FEATURE}/tags", auth=researcher, response={200: list[str], **PROBLEMS}, summary="Tag a feature")
def tag(request: HttpRequest, slug: str, index: int, body: shapes.TagsIn) -> Any:
    feature = _feature(slug, index)
    names = list(dict.fromkeys(rules.tag_name(name) for name in body.tags))
    notes.tag([feature.pk], names, actor(request))
    return people.people_of(feature, actor(request)).tags


@router.delete(f"{FEATURE}/tags/{{name}}", auth=researcher, response=DONE, summary="Take a tag off")
def untag(request: HttpRequest, slug: str, index: int, name: str) -> Any:
    if not notes.untag([_feature(slug, index).pk], rules.tag_name(name)):
        raise NotFound("The feature does not bear this tag.")
    return Status(204, None)


@router.get(
    f"{FEATURE}/comments",
    auth=viewer,
    response={200: list[shapes.CommentOut], **PROBLEMS},
    summary="Comments on a feature",
)
def list_comments(request: HttpRequest, slug: str, index: int) -> Any:
    comments = people.knowledge_of(_feature(slug, index), actor(request)).comments
    return [shapes.CommentOut.of(comment) for comment in comments]


@router.post(
    f"{FEATURE}/comments",
    auth=researcher,
    response={200: shapes.CommentOut, **PROBLEMS},
    summary="Comment on a feature",
)
def comment(request: HttpRequest, slug: str, index: int, body: shapes.TextIn) -> Any:
    return shapes.CommentOut.of(notes.comment(_feature(slug, index), body.text, actor(request)))


@router.delete(
    "/comments/{comment}",
    auth=researcher,
    response=DONE,
    summary="Delete a comment: one's own, or any as an administrator",
)
def delete_comment(request: HttpRequest, comment: int) -> Any:
    found = Comment.objects.filter(pk=comment).first() if 0 <= comment < 2**63 else None
    if found is None:
        raise NotFound("There is no such comment.")
    notes.delete_comment(found, actor(request))
    return Status(204, None)


def actor(request: HttpRequest) -> Any:
    """Whoever is signed in, or made the key."""
    auth = request.auth  # type: ignore[attr-defined]  # the API puts it there
    return auth.user if isinstance(auth, ApiKey) else auth


def _feature(slug: str, index: int) -> Feature:
    return find_feature(find_sae(slug), index)


def listed(features: list[str]) -> list[Feature]:
    return find_named(names_in(",".join(features)))


def _label(pk: int) -> Label:
    found = Label.objects.filter(pk=pk).first() if 0 <= pk < 2**63 else None
    if found is None:
        raise NotFound("There is no such label.")
    return found


def _batch(batch: UUID, asked: int) -> dict[str, Any]:
    changed = labelling.changes_of(batch)
    return {"batch": batch, "changed": changed, "unchanged": asked - changed}
