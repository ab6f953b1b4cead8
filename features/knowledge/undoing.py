"""What a button that says Undo carries, and what it does.

The page holds what is to be undone, signed for one person and a day: nothing has to be stored, and only what really
changed is changed back. Undoing gives the way back in turn, which is how one redoes. Labels have their history in the
database besides: a batch of theirs can be undone at any time.
"""

from collections.abc import Callable
from dataclasses import astuple, dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core import signing
from django.db import transaction

from features.evidence import NotFound
from features.knowledge import collecting, labelling, notes
from features.knowledge.rules import Refused
from features.models import Collection, Comment, LabelChange

SALT = "features.undo"
VALID_FOR = timedelta(days=1)
Data = Any  # what JSON holds


@dataclass(frozen=True)
class Outcome:
    """What was done, as a sentence, and the token that undoes it, if there is something to undo.

    ``features`` are the keys of those whose label may be another now.
    """

    text: str
    undo: str = ""
    redoes: bool = False
    features: list[int] = field(default_factory=list)


def token(user: Any, kind: str, *data: Data) -> str:
    return signing.dumps([user.pk, kind, data], salt=SALT, compress=True)


def undo(what: str, user: Any) -> Outcome:
    """Do what ``token`` made ``what`` for. Refused if it was made for somebody else, or too long ago."""
    try:
        made_for, kind, data = signing.loads(what, salt=SALT, max_age=VALID_FOR)
    except signing.BadSignature as error:
        raise Refused("This Undo is too old, or damaged; labels are undone from a feature's history.") from error
    if made_for != user.pk:
        raise Refused("This Undo was made for somebody else.")
    return KINDS[kind](user, *data)


def undo_labels(user: Any, batch: str) -> Outcome:
    touched = list(LabelChange.objects.filter(batch=batch).values_list("feature_id", flat=True))
    done = labelling.undo(UUID(batch), user)
    many = done.reverted + done.stayed
    if not done.reverted:
        which = "the feature was" if many == 1 else f"all {many} features were"
        return Outcome(f"Nothing to undo: {which} given another label since.")
    text = f"Undone: {features(done.reverted)} {'shows' if done.reverted == 1 else 'show'} what stood there before."
    if done.stayed:
        text += f" {done.stayed} of {many} were changed since and stay."
    return Outcome(text, token(user, "labels", str(done.batch)), redoes=True, features=touched)


def _star(user: Any, keys: list[int]) -> Outcome:
    new = notes.star(keys, user)
    return Outcome(f"Starred {features(len(new))} again.", token(user, "unstar", new), redoes=True)


def _unstar(user: Any, keys: list[int]) -> Outcome:
    gone = notes.unstar(keys, user)
    return Outcome(f"Took the star off {features(len(gone))}.", token(user, "star", gone), redoes=True)


def _tag(user: Any, by_name: dict[str, list[int]]) -> Outcome:
    with transaction.atomic():
        new = {name: notes.tag(keys, [name], user)[name] for name, keys in by_name.items()}
    return Outcome(f"Tagged {_tagged(new)} again.", token(user, "untag", new), redoes=True)


def _untag(user: Any, by_name: dict[str, list[int]]) -> Outcome:
    with transaction.atomic():
        gone = {name: notes.untag(keys, name) for name, keys in by_name.items()}
    return Outcome(f"Took tags off: {_tagged(gone)}.", token(user, "tag", gone), redoes=True)


def _tagged(by_name: dict[str, list[int]]) -> str:
    return ", ".join(f"{features(len(keys))} “{name}”" for name, keys in by_name.items())


def _take_out(user: Any, pk: int, keys: list[int]) -> Outcome:
    collection = _collection(user, pk)
    gone = collecting.remove(collection, keys, user)
    text = f"Took {features(len(gone))} out of “{collection}”."
    return Outcome(text, token(user, "put back", pk, [astuple(kept) for kept in gone]), redoes=True)


def _put_back(user: Any, pk: int, items: list[list[Any]]) -> Outcome:
    collection = _collection(user, pk)
    back = collecting.put_back(collection, [collecting.Kept(*item) for item in items])
    text = f"Put {features(len(back))} back into “{collection}”."
    return Outcome(text, token(user, "take out", pk, back), redoes=True)


def _comment(user: Any, pk: int, text: str) -> Outcome:
    comment = Comment.objects.filter(pk=pk).first()
    if comment is None or not notes.restore_comment(comment, text, user):
        raise Refused("The comment is not deleted any more, or its feature is gone.")
    return Outcome("The comment is back.")


def _collection(user: Any, pk: int) -> Collection:
    found = Collection.objects.visible_to(user).filter(pk=pk).first()
    if found is None:
        raise NotFound("The collection is gone, or no longer shared with you.")
    return found


def features(n: int) -> str:
    return f"{n:,} feature{'' if n == 1 else 's'}"


KINDS: dict[str, Callable[..., Outcome]] = {
    "labels": undo_labels,
    "star": _star,
    "unstar": _unstar,
    "tag": _tag,
    "untag": _untag,
    "take out": _take_out,
    "put back": _put_back,
    "comment": _comment,
}
