"""Collections: made, changed, filled and put in order. Who may do what is asked of ``rules``.

Every writer holds the collection's row, so positions stay distinct however many people add at once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils.text import slugify

from features.evidence import NotFound
from features.knowledge import rules
from features.knowledge.rules import MAX_NAME, MAX_NOTE, MAX_TEXT, Refused, line, prose, require
from features.models import Collection, CollectionItem

MOST = 10_000
"""How many features a collection holds."""
OWNERS = "Whoever made a collection may change it, and administrators."
ADDERS = "Whoever put a feature into a collection may do this, the collection's owner, and administrators."


@dataclass(frozen=True)
class Kept:
    """An item as it was when it was taken out, to be put back."""

    feature: int
    position: int
    note: str
    added_by: int | None


def find_collection(slug: str, user: Any) -> Collection:
    """A collection that the user may see: one query. Somebody else's private one is not found, like none at all."""
    visible = Collection.objects.visible_to(user).select_related("owner")
    found = visible.filter(slug=slug).first() if "\0" not in slug else None
    if found is None:
        raise NotFound("There is no collection of this name here, or it is not shared with you.")
    return found


def find_or_create(text: str, user: Any) -> tuple[Collection, bool]:
    """The collection with this slug, or this name, that the user may see; else a new private one of this name."""
    name = line(text, MAX_NAME, "collection's name")
    visible = Collection.objects.visible_to(user)
    if found := visible.filter(slug=name).first():
        return found, False
    named = list(visible.filter(name__iexact=name)[:20])
    if own := [collection for collection in named if collection.owner_id == user.pk]:
        named = own
    if len(named) > 1:
        addresses = " or ".join(collection.slug for collection in named)
        raise Refused(f"Several collections are called “{name}”: write {addresses} for the one that you mean.")
    return (named[0], False) if named else (create(user, name), True)


def create(user: Any, name: str, description: str = "", *, shared: bool = False) -> Collection:
    """The slug is made of the name, with a number behind it if another one has it."""
    name, description = line(name, MAX_NAME, "collection's name"), prose(description, MAX_TEXT, "description")
    base = slugify(name)[:100].strip("-") or "collection"
    taken = set(Collection.objects.filter(slug__startswith=base).values_list("slug", flat=True))
    for number in range(1, len(taken) + 20):
        slug = base if number == 1 else f"{base}-{number}"
        if slug in taken:
            continue
        try:
            with transaction.atomic():
                return Collection.objects.create(
                    slug=slug, name=name, description=description, owner=user, shared=shared
                )
        except IntegrityError:
            continue  # somebody took it in the meantime
    raise Refused(f"Too many collections are called “{name}”; choose another name.")


def edit(collection: Collection, user: Any, *, name: str, description: str, shared: bool) -> None:
    """Its slug stays, so that links to it do."""
    require(rules.may_change(user, collection), OWNERS)
    collection.name = line(name, MAX_NAME, "collection's name")
    collection.description = prose(description, MAX_TEXT, "description")
    collection.shared = shared
    collection.save(update_fields=["name", "description", "shared", "changed_at"])


def delete(collection: Collection, user: Any) -> None:
    require(rules.may_change(user, collection), OWNERS)
    collection.delete()


def add(collection: Collection, features: Iterable[int], user: Any) -> list[int]:
    """Put the features with these keys at the end, in this order; returns those that were not in it."""
    keys = list(dict.fromkeys(features))
    with transaction.atomic():
        _hold(collection)
        there = set(collection.items.filter(feature__in=keys).values_list("feature_id", flat=True))
        new, last = [key for key in keys if key not in there], _last(collection)
        _insert(collection, [Kept(key, last + n, "", user.pk) for n, key in enumerate(new, 1)])
    return new


def put_back(collection: Collection, items: Sequence[Kept]) -> list[int]:
    """Put items where they were, or at the end if a place was taken; returns the features that were not in it again."""
    with transaction.atomic():
        _hold(collection)
        keys = [item.feature for item in items]
        there = set(collection.items.filter(feature__in=keys).values_list("feature_id", flat=True))
        back = [item for item in items if item.feature not in there]
        if collection.items.filter(position__in=[item.position for item in back]).exists():
            last = _last(collection)
            back = [replace(item, position=last + n) for n, item in enumerate(back, 1)]
        _insert(collection, back)
    return [item.feature for item in back]


def remove(collection: Collection, features: Iterable[int], user: Any) -> list[Kept]:
    """Take features out; returns them as they were. NotAllowed, with nothing taken out, if one was put by another."""
    with transaction.atomic():
        _hold(collection)
        items = list(collection.items.filter(feature__in=set(features)))
        allowed = all(rules.may_change_item(user, collection, item) for item in items)
        require(allowed, ADDERS)
        collection.items.filter(pk__in=[item.pk for item in items]).delete()
        _touch(collection)
    return [Kept(item.feature_id, item.position, item.note, item.added_by_id) for item in items]


def move(collection: Collection, item: CollectionItem, user: Any, *, up: bool) -> bool:
    """Change places with the item before or after; False at the end."""
    require(rules.may_change(user, collection), "Whoever made a collection may put it in order, and administrators.")
    with transaction.atomic():
        _hold(collection)
        item.refresh_from_db(fields=["position"])
        beyond = {"position__lt": item.position} if up else {"position__gt": item.position}
        other = collection.items.filter(**beyond).order_by("-position" if up else "position").first()
        if other is None:
            return False
        item.position, other.position = other.position, item.position
        CollectionItem.objects.bulk_update([item, other], ["position"])
        _touch(collection)
    return True


def annotate(collection: Collection, item: CollectionItem, text: str, user: Any) -> None:
    """Write the item's note."""
    allowed = rules.may_change_item(user, collection, item)
    require(allowed, ADDERS)
    item.note = line(text, MAX_NOTE, "note") if text.strip() else ""
    item.save(update_fields=["note"])


def _insert(collection: Collection, items: Sequence[Kept]) -> None:
    if collection.items.count() + len(items) > MOST:
        raise Refused(f"A collection holds at most {MOST:,} features; begin another one.")
    CollectionItem.objects.bulk_create(
        [
            CollectionItem(
                collection=collection,
                feature_id=item.feature,
                position=item.position,
                note=item.note,
                added_by_id=item.added_by,
            )
            for item in items
        ],
        batch_size=500,
    )
    _touch(collection)


def _last(collection: Collection) -> int:
    return collection.items.aggregate(last=Max("position"))["last"] or 0


def _hold(collection: Collection) -> None:
    if not Collection.objects.select_for_update(no_key=True).filter(pk=collection.pk).values_list("pk", flat=True):
        raise NotFound("This collection was deleted in the meantime.")


def _touch(collection: Collection) -> None:
    collection.save(update_fields=["changed_at"])
