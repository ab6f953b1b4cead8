"""What programs send and get where people have a say."""

from datetime import datetime
from typing import Any, Literal, Self
from uuid import UUID

from ninja import Field, Schema

from features.knowledge.rules import MAX_LABEL, MAX_TEXT
from features.models import Collection, Comment, Label, LabelChange


class LabelIn(Schema):
    text: str = Field(description=f"at most {MAX_LABEL} characters")
    explanation: str | None = Field(None, description=f"at most {MAX_TEXT:,} characters")


class LabelsIn(LabelIn):
    features: list[str] = Field(description="each as sae/index")


class BatchOut(Schema):
    batch: UUID = Field(description="what to send to /undo")
    changed: int = Field(description="features that show another label now")
    unchanged: int


class UndoIn(Schema):
    batch: UUID


class UndoneOut(Schema):
    batch: UUID = Field(description="undoes the undoing")
    reverted: int
    stayed: int = Field(description="features that were given another label since, and keep it")


class GivenOut(Schema):
    id: int
    text: str
    explanation: str
    source: str = Field(description="person, rule or model")
    author: str | None
    rule: str
    precision: float | None = Field(description="share of held-out examples on which a rule holds")
    n_held_out: int | None
    method: str
    explainer: str = Field(description="the model that wrote it")
    created_at: datetime
    shown: bool
    yes: int = Field(description="votes")
    no: int
    mine: int = Field(description="your vote: 1, -1 or 0")

    @classmethod
    def of(cls, label: Any, *, shown: bool) -> Self:
        """``label`` as ``people.knowledge_of`` annotates it."""
        plain = "text explanation source rule precision n_held_out method explainer created_at".split()
        votes = {name: getattr(label, name) for name in ("yes", "no", "mine")}
        known = {name: getattr(label, name) for name in plain}
        return cls(id=label.pk, author=_author(label), shown=shown, **known, **votes)


class ChangeOut(Schema):
    batch: UUID
    before: str | None
    after: str | None
    author: str | None
    created_at: datetime
    n_batch: int = Field(description="features that this batch changed")
    undoes: bool

    @classmethod
    def of(cls, change: LabelChange) -> Self:
        return cls(
            batch=change.batch,
            before=change.before.text if change.before else None,
            after=change.after.text if change.after else None,
            author=_name(change.author),
            created_at=change.created_at,
            n_batch=change.n_batch,  # type: ignore[attr-defined]  # annotated by people.knowledge_of
            undoes=change.undoes_id is not None,
        )


class VoteIn(Schema):
    value: int = Field(description="1 for yes, -1 for no, 0 for none")


class TagsIn(Schema):
    tags: list[str]


class TextIn(Schema):
    text: str = Field(description=f"at most {MAX_TEXT:,} characters")


class CommentOut(Schema):
    id: int
    text: str
    author: str | None
    created_at: datetime
    deleted: bool = Field(description="its text is gone, its place is kept")

    @classmethod
    def of(cls, comment: Comment) -> Self:
        deleted = comment.deleted_at is not None
        text = "" if deleted else comment.text
        author = _name(comment.author)
        return cls(id=comment.pk, text=text, author=author, created_at=comment.created_at, deleted=deleted)


class CollectionIn(Schema):
    name: str
    description: str = ""
    shared: bool = Field(False, description="everybody signed in may look at it and add to it")


class CollectionPatch(Schema):
    name: str | None = None
    description: str | None = None
    shared: bool | None = None


class CollectionOut(Schema):
    slug: str
    name: str
    description: str
    owner: str | None
    shared: bool
    n_features: int
    changed_at: datetime

    @staticmethod
    def of(row: Collection, n: int) -> dict[str, Any]:
        plain = {name: getattr(row, name) for name in ("slug", "name", "description", "shared", "changed_at")}
        return plain | {"owner": _name(row.owner), "n_features": n}


class ItemOut(Schema):
    sae: str
    index: int
    label: str
    label_source: str
    label_author: str
    explanation: str
    tags: list[str]
    note: str
    added_by: str
    added_at: datetime
    run: int | None = Field(description="the newest run of its SAE, whose figures these are")
    density: float | None
    max_activation: float | None


class CollectionDetailOut(CollectionOut):
    features: list[ItemOut]


class FeaturesIn(Schema):
    features: list[str] = Field(description="each as sae/index")


class AddedOut(Schema):
    added: int
    there: int = Field(description="that were in it already")


class ItemIn(Schema):
    note: str | None = None
    move: Literal["up", "down"] | None = None


def _author(label: Label) -> str | None:
    return _name(label.author) or label.author_name or None


def _name(user: Any) -> str | None:
    return user.get_username() if user else None
