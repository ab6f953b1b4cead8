"""Labels: given, shown again, taken back, undone. Everybody signed in may do each, and nothing is lost by any.

Each of these writes in one transaction, holding the rows of the SAEs concerned, in the order of their keys: two people
never wait for each other in a ring, and the keys of an SAE's changes ascend in the order in which they happened.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import QuerySet

from features.evidence import NotFound
from features.knowledge.rules import MAX_LABEL, MAX_TEXT, Refused, line, prose
from features.models import SAE, Feature, Label, LabelChange, Vote
from features.search.phrases import remember

MOST = 1000
"""How many features one command labels."""


@dataclass(frozen=True)
class Undone:
    """``batch`` undoes the undoing. ``stayed`` features show something else by now, and keep it."""

    batch: UUID
    reverted: int
    stayed: int


def give(features: Sequence[Feature], text: str, author: Any, *, explanation: str | None = None) -> UUID:
    """Label every one of ``features``, and show that label. The batch has a change for each that showed another.

    A label that the author gave to a feature before, with this text, is shown again instead of written twice; with an
    ``explanation`` (None: none was asked for) only if that is the same, too. Refused, with nothing written, for a text
    that ``rules.line`` refuses, and for no feature or more than MOST. Eight queries, and more by hundreds of features.
    """
    text = line(text, MAX_LABEL, "label")
    about = None if explanation is None else prose(explanation, MAX_TEXT, "explanation")
    if not 0 < len(features) <= MOST:
        raise Refused(f"Choose from 1 to {MOST:,} features to label; {len(features):,} were chosen.")
    with transaction.atomic():
        remember([text])
        rows = locked(feature.pk for feature in features)
        shown = _given_before(rows, text, about, author)
        new = [
            Label(feature=row, text=text, explanation=about or "", source=Label.Source.PERSON, author=author)
            for row in rows
            if row.pk not in shown
        ]
        shown |= {label.feature_id: label.pk for label in Label.objects.bulk_create(new)}
        return _show(rows, shown, author)


def show(label: Label, user: Any) -> UUID:
    """Show an older label of its feature, withdrawn or not. The batch is empty where it is shown already."""
    with transaction.atomic():
        Label.objects.filter(pk=label.pk, withdrawn_at__isnull=False).update(withdrawn_at=None)
        return _show(locked([label.feature_id]), {label.feature_id: label.pk}, user)


def withdraw(feature: Feature, user: Any) -> UUID:
    """Show no label; those that were given stay where they are. The batch is empty where none is shown."""
    with transaction.atomic():
        return _show(locked([feature.pk]), {feature.pk: None}, user)


def undo(batch: UUID, user: Any) -> Undone:
    """Show what each feature of the batch showed before it, where it still shows what the batch left.

    NotFound if nobody made such a batch.
    """
    with transaction.atomic():
        features = LabelChange.objects.filter(batch=batch).values_list("feature_id", flat=True)
        rows = locked(features)
        changes = {change.feature_id: change for change in LabelChange.objects.filter(batch=batch)}
        if not changes:
            raise NotFound("There is no such change of labels here.")
        as_left = [row for row in rows if row.label_id == changes[row.pk].after_id]
        before = {row.pk: changes[row.pk].before_id for row in as_left}
        undoing = _show(as_left, before, user, undoes=changes)
    return Undone(undoing, len(as_left), len(rows) - len(as_left))


def changes_of(batch: UUID) -> int:
    """How many features show another label since: one query."""
    return LabelChange.objects.filter(batch=batch).count()


def vote(label: Label, user: Any, value: int) -> None:
    """Let the user's vote be yes (1), no (-1) or none (0)."""
    if value not in {-1, 0, 1}:
        raise Refused("A vote is 1 for yes, -1 for no, or 0 for none.")
    if value:
        Vote.objects.update_or_create(label=label, user=user, defaults={"value": value})
    else:
        Vote.objects.filter(label=label, user=user).delete()


def locked(features: Iterable[int]) -> list[Feature]:
    """These features, by key, as they are while the transaction lasts: nobody else changes their labels or notes."""
    keys = set(features)
    saes = SAE.objects.filter(pk__in=Feature.objects.filter(pk__in=keys).values("sae"))
    list(saes.order_by("pk").select_for_update(no_key=True).values_list("pk", flat=True))
    return list(_slim(Feature.objects.filter(pk__in=keys)).order_by("pk"))


def _slim(features: QuerySet[Feature]) -> QuerySet[Feature]:
    return features.only("sae_id", "index", "label_id")


def _given_before(rows: Sequence[Feature], text: str, explanation: str | None, author: Any) -> dict[int, int | None]:
    """By feature, the label that the author gave with these words: the one that is shown, else the last."""
    own = Label.objects.filter(feature__in=rows, author=author, source=Label.Source.PERSON, text=text)
    if explanation is not None:
        own = own.filter(explanation=explanation)
    shown = {row.label_id for row in rows}
    found: dict[int, int | None] = {}
    for feature, label in own.order_by("pk").values_list("feature_id", "pk"):
        if feature not in found or found[feature] not in shown:
            found[feature] = label
    return found


def _show(
    rows: Sequence[Feature],
    shown: Mapping[int, int | None],
    author: Any,
    undoes: Mapping[int, LabelChange] | None = None,
) -> UUID:
    """Let each of ``rows`` show the label that ``shown`` gives it, and write down those that showed another."""
    batch, changes, changed = uuid4(), [], []
    for row in rows:
        before, row.label_id = row.label_id, shown[row.pk]
        if before != row.label_id:
            changed.append(row)
            changes.append(
                LabelChange(
                    sae_id=row.sae_id,
                    feature=row,
                    index=row.index,
                    before_id=before,
                    after_id=row.label_id,
                    author=author,
                    batch=batch,
                    undoes=undoes[row.pk] if undoes else None,
                )
            )
    LabelChange.objects.bulk_create(changes)
    for sae, last in {change.sae_id: change.pk for change in changes}.items():
        SAE.objects.filter(pk=sae).update(last_label_change=last)
    Feature.objects.bulk_update(changed, ["label"], batch_size=200)
    return batch
