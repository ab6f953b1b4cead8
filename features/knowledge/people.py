"""What people have said about a feature, as its page shows it."""

from dataclasses import dataclass
from typing import Any

from django.db.models import CharField, Count, F, IntegerField, OuterRef, Q, QuerySet, Subquery, Value
from django.db.models.functions import Coalesce

from features.models import Collection, CollectionItem, Comment, Feature, Label, LabelChange, Star, Tagging, Vote

LABELS, CHANGES, COMMENTS = 100, 50, 200
"""How many of each a page shows."""


@dataclass(frozen=True)
class In:
    """A collection that holds the feature."""

    slug: str
    name: str


@dataclass(frozen=True)
class People:
    """What stands beside a feature's label. ``collections`` are those that the user may see."""

    starred: bool
    tags: list[str]
    collections: list[In]
    n_labels: int
    n_comments: int


def people_of(feature: Feature, user: Any) -> People:
    """One query."""
    own = Collection.objects.visible_to(user)
    parts = [
        _part(Star.objects.filter(feature=feature, user=user), "star"),
        _part(Tagging.objects.filter(feature=feature), "tag", F("tag__name")),
        _part(CollectionItem.objects.filter(feature=feature, collection__in=own), "in", *_COLLECTION),
        _counted(Label.objects.filter(feature=feature), "labels"),
        _counted(Comment.objects.filter(feature=feature, deleted_at=None), "comments"),
    ]
    rows = list(parts[0].union(*parts[1:], all=True))
    n = {kind: count for kind, _, _, count in rows}
    return People(
        starred="star" in n,
        tags=sorted(text for kind, text, _, _ in rows if kind == "tag"),
        collections=[In(slug, text) for kind, text, slug, _ in sorted(rows, key=lambda row: row[1]) if kind == "in"],
        n_labels=n.get("labels", 0),
        n_comments=n.get("comments", 0),
    )


_NOTHING = Value("", CharField())
_COLLECTION = (F("collection__name"), F("collection__slug"))


def _part(rows: QuerySet[Any], kind: str, text: Any = _NOTHING, slug: Any = _NOTHING) -> Any:
    shown = rows.order_by().annotate(kind_=Value(kind, CharField()), text_=text, slug_=slug, n_=Value(0))
    return shown.values_list("kind_", "text_", "slug_", "n_")


def _counted(rows: QuerySet[Any], kind: str) -> Any:
    one = rows.order_by().values("feature").annotate(kind_=Value(kind, CharField()), text_=_NOTHING, slug_=_NOTHING)
    return one.annotate(n_=Count("pk")).values_list("kind_", "text_", "slug_", "n_")


@dataclass(frozen=True)
class Knowledge:
    """Labels of a feature, the last first; what was changed, the last first; comments, the first first."""

    labels: list[Label]
    changes: list[LabelChange]
    comments: list[Comment]


def knowledge_of(feature: Feature, user: Any) -> Knowledge:
    """Three queries. A label has ``yes`` and ``no``, and ``mine``: the user's vote or 0. A change has ``n_batch``."""
    votes = {name: Count("votes", Q(votes__value=value)) for name, value in (("yes", 1), ("no", -1))}
    mine = Vote.objects.filter(label=OuterRef("pk"), user=user).values("value")
    labels = feature.labels.select_related("author", "run").annotate(**votes, mine=Coalesce(Subquery(mine), 0))
    together = LabelChange.objects.filter(batch=OuterRef("batch")).order_by().values("batch").annotate(n=Count("pk"))
    changes = feature.label_changes.select_related("before", "after", "author")
    changes = changes.annotate(n_batch=Subquery(together.values("n"), output_field=IntegerField()))
    return Knowledge(
        labels=list(labels.order_by("-pk")[:LABELS]),
        changes=list(changes.order_by("-pk")[:CHANGES]),
        comments=list(feature.comments.select_related("author")[:COMMENTS]),
    )
