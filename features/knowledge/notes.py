"""Stars, tags and comments: written here. Every writer returns what it changed, so that just that can be undone."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import transaction
from django.db.models import Count
from django.utils import timezone

from features.knowledge import rules
from features.knowledge.labelling import locked
from features.knowledge.rules import MAX_TAGS, MAX_TEXT, Refused, prose
from features.models import Comment, Feature, Star, Tag, Tagging

AUTHORS = "Only whoever wrote a comment, and administrators,"


def star(features: Iterable[int], user: Any) -> list[int]:
    """Star the features with these keys; returns those that were not starred: four queries."""
    with transaction.atomic():
        keys = [row.pk for row in locked(features)]
        there = set(Star.objects.filter(user=user, feature__in=keys).values_list("feature_id", flat=True))
        new = [key for key in keys if key not in there]
        Star.objects.bulk_create([Star(user=user, feature_id=key) for key in new])
    return new


def unstar(features: Iterable[int], user: Any) -> list[int]:
    """Returns those that were starred."""
    with transaction.atomic():
        own = Star.objects.filter(user=user, feature__in=set(features))
        gone = list(own.values_list("feature_id", flat=True))
        own.filter(feature__in=gone).delete()
    return gone


def tag(features: Iterable[int], names: Sequence[str], user: Any) -> dict[str, list[int]]:
    """Put tags of these names (of ``rules.tag_names``) on features; returns by name the features that had it not.

    Refused, with nothing written, where a feature would bear more than MAX_TAGS.
    """
    with transaction.atomic():
        rows = locked(features)
        Tag.objects.bulk_create([Tag(name=name) for name in names], ignore_conflicts=True)
        tags = {tag.name: tag for tag in Tag.objects.filter(name__in=names)}
        on = Tagging.objects.filter(feature__in=rows)
        there = set(on.filter(tag__name__in=names).values_list("tag__name", "feature_id"))
        new = {name: [row.pk for row in rows if (name, row.pk) not in there] for name in names}
        _refuse_more(rows, dict(on.values_list("feature_id").annotate(n=Count("pk"))), new)
        Tagging.objects.bulk_create(
            [Tagging(tag=tags[name], feature_id=key, author=user) for name in names for key in new[name]]
        )
    return new


def _refuse_more(rows: Sequence[Feature], now: dict[int, int], new: dict[str, list[int]]) -> None:
    for row in rows:
        n = now.get(row.pk, 0) + sum(row.pk in keys for keys in new.values())
        if n > MAX_TAGS:
            raise Refused(f"Feature {row.index} would bear {n} tags; {MAX_TAGS} is the most. Take some off first.")


def untag(features: Iterable[int], name: str) -> list[int]:
    """Take a tag off features; returns those that had it."""
    with transaction.atomic():
        on = Tagging.objects.filter(tag__name=name, feature__in=set(features))
        gone = list(on.values_list("feature_id", flat=True))
        on.filter(feature__in=gone).delete()
    return gone


def comment(feature: Feature, text: str, user: Any) -> Comment:
    text = prose(text, MAX_TEXT, "comment")
    if not text:
        raise Refused("Write something before you send the comment.")
    return Comment.objects.create(feature=feature, author=user, text=text)


def delete_comment(comment: Comment, user: Any) -> str:
    """Erase the comment's text and leave its place; returns the text, of which no copy is kept."""
    rules.require(rules.may_delete_comment(user, comment), f"{AUTHORS} may delete it.")
    with transaction.atomic():
        row = Comment.objects.select_for_update().get(pk=comment.pk)
        if row.deleted_at is not None:
            return ""
        text, row.text, row.deleted_at = row.text, "", timezone.now()
        row.save(update_fields=["text", "deleted_at"])
    return text


def restore_comment(comment: Comment, text: str, user: Any) -> bool:
    """Put back a text that ``delete_comment`` returned; False if it stands there already."""
    rules.require(rules.may_delete_comment(user, comment), f"{AUTHORS} may put it back.")
    return bool(Comment.objects.filter(pk=comment.pk, deleted_at__isnull=False).update(text=text, deleted_at=None))
