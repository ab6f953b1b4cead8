"""What people left beside features: changes of labels, votes, stars, tags, comments, collections."""

from collections.abc import Sequence
from uuid import UUID

import numpy as np
from django.contrib.auth.models import User
from django.utils import timezone

from features.models import (
    SAE,
    Collection,
    CollectionItem,
    Comment,
    Feature,
    Label,
    LabelChange,
    Star,
    Tag,
    Tagging,
    Vote,
)  # fmt: skip
from jobs import bulk

N_PEOPLE, N_TAGS, N_COLLECTIONS, LARGEST = 12, 40, 60, 500
TAGS = ("to-check", "safety", "code", "grammar", "names", "numbers", "odd", "dense")


def make_people() -> list[User]:
    """Nobody can sign in as one of them: they have no password."""
    return [User.objects.create_user(f"reader-{i}") for i in range(N_PEOPLE)]


def make_traces(rng: np.random.Generator, saes: Sequence[SAE], people: Sequence[User]) -> None:
    """Over all SAEs: about a star, tag, comment and vote on one feature in two hundred, and collections of them."""
    for sae in saes:
        keys = list(Feature.objects.filter(sae=sae).order_by("index").values_list("pk", flat=True))
        n = max(4, len(keys) // 200)
        _changes(sae)
        _marks(rng, keys, n, people)
        _votes(rng, sae, n, people)
    _collections(rng, saes, people)


def _changes(sae: SAE) -> None:
    """A person's label took the place of what was shown before: of a rule's, if there is one."""
    given = Label.objects.filter(feature__sae=sae, source=Label.Source.PERSON).select_related("feature").order_by("pk")
    rules = Label.objects.filter(run__sae=sae, feature__labels__source=Label.Source.PERSON)
    before = dict(rules.values_list("feature_id", "pk"))
    changes = [
        LabelChange(
            sae=sae, feature_id=label.feature_id, index=label.feature.index, before_id=before.get(label.feature_id),
            after=label, author_id=label.author_id, batch=UUID(int=sae.pk << 64 | label.pk),
        )
        for label in given.defer("feature__logits", "feature__neighbours")
    ]  # fmt: skip
    LabelChange.objects.bulk_create(changes, batch_size=1000)
    SAE.objects.filter(pk=sae.pk).update(last_label_change=changes[-1].pk if changes else 0)


def _marks(rng: np.random.Generator, keys: Sequence[int], n: int, people: Sequence[User]) -> None:
    now = timezone.now()
    names = [*TAGS, *(f"topic-{i}" for i in range(N_TAGS - len(TAGS)))]
    tags = [Tag.objects.get_or_create(name=name)[0].pk for name in names]

    def some() -> list[int]:
        return [keys[i] for i in rng.choice(len(keys), n, replace=False).tolist()]

    def someone() -> int:
        return int(people[int(rng.integers(len(people)))].pk)

    bulk.insert(Star, ("user", "feature", "created_at"), [(someone(), key, now) for key in some()])
    taggings = [(tags[int(rng.integers(len(tags)))], key, someone(), now) for key in some()]
    bulk.insert(Tagging, ("tag", "feature", "author", "created_at"), taggings)
    comments = [(key, someone(), "Also fires on headings; the label says too little.", now) for key in some()]
    bulk.insert(Comment, ("feature", "author", "text", "created_at"), comments)


def _votes(rng: np.random.Generator, sae: SAE, n: int, people: Sequence[User]) -> None:
    labels = Label.objects.filter(feature__sae=sae).order_by("pk").values_list("pk", flat=True)
    votes = [(label, people[i % len(people)].pk, 1 if rng.random() < 0.8 else -1) for i, label in enumerate(labels[:n])]
    bulk.insert(Vote, ("label", "user", "value"), votes)


def _collections(rng: np.random.Generator, saes: Sequence[SAE], people: Sequence[User]) -> None:
    now = timezone.now()
    for number in range(N_COLLECTIONS):
        owner, sae = people[number % len(people)], saes[number % len(saes)]
        made = Collection.objects.create(
            slug=f"collection-{number}", name=f"Collection {number}", owner=owner, shared=number % 3 > 0
        )
        indexes = rng.choice(sae.d_sae, min(sae.d_sae, LARGEST >> number % 6), replace=False).tolist()
        features = Feature.objects.filter(sae=sae, index__in=indexes).values_list("pk", flat=True)
        items = [(made.pk, key, place, "", owner.pk, now) for place, key in enumerate(features)]
        bulk.insert(CollectionItem, ("collection", "feature", "position", "note", "added_by", "added_at"), items)
