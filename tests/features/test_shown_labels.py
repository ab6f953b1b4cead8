"""The label that each feature shows: kept by the process, brought up to date from the log."""

from uuid import uuid4

from django.db import connection
from django.test.utils import CaptureQueriesContext

from features import shown_labels
from features.models import SAE, Feature, Label, LabelChange, Phrase
from features.search.phrases import remember
from features.shown_labels import MODEL, NONE, PERSON, RULE, labels_of
from tests import factories
from tests.factories import HOSTILES, NAMED, TIED, World


def change(index: int, source: str) -> SAE:
    """What giving a label does, as far as it matters here; no source takes the label off."""
    sae = SAE.objects.get()
    feature = sae.features.get(index=index)
    label = None
    remember([f"given {index}"])
    if source:
        label = Label.objects.create(
            feature=feature, text=f"given {index}", source=source, rule="token", precision=1, n_held_out=1
        )
    before, feature.label = feature.label, label
    feature.save(update_fields=["label"])
    logged = LabelChange.objects.create(
        sae=sae, feature=feature, index=index, before=before, after=label, batch=uuid4()
    )
    SAE.objects.update(last_label_change=logged.pk)
    return SAE.objects.get()


def stored(sae: SAE) -> list[int]:
    names = {"rule": RULE, "model": MODEL, "person": PERSON, None: NONE}
    return [names[source] for source in sae.features.order_by("index").values_list("label__source", flat=True)]


def texts(sae: SAE) -> list[str | None]:
    by_key = dict(Phrase.objects.values_list("pk", "text"))
    return [by_key.get(key) for key in labels_of(sae).phrases.tolist()]


def stored_texts(sae: SAE) -> list[str | None]:
    return list(sae.features.order_by("index").values_list("label__text", flat=True))


def test_they_follow_the_log(world: World) -> None:
    sae = SAE.objects.get()
    first = labels_of(sae).kinds
    assert first.tolist() == stored(sae)
    assert (first[NAMED], first[TIED], first[0]) == (PERSON, RULE, NONE)
    assert texts(sae) == stored_texts(sae)
    for steps in ([(0, "model")], [(0, "person"), (NAMED, ""), (HOSTILES, "model")], [], [(0, ""), (0, "rule")]):
        for step in steps:
            sae = change(*step)
        with CaptureQueriesContext(connection) as queries:
            found = labels_of(sae).kinds
        assert len(queries) == (1 if steps else 0)
        assert found.tolist() == stored(sae)
        assert texts(sae) == stored_texts(sae)
    assert first[NAMED] == PERSON  # nobody's array changes under them


def test_without_a_log_they_are_read_anew(world: World) -> None:
    labels_of(SAE.objects.get())
    Feature.objects.filter(index=NAMED).update(label=None)
    assert labels_of(SAE.objects.get()).kinds[NAMED] == PERSON  # nobody said so
    shown_labels.changed(world.sae.pk)
    assert labels_of(SAE.objects.get()).kinds[NAMED] == NONE


def test_a_label_that_is_gone_counts_as_none(world: World) -> None:
    labels_of(SAE.objects.get())
    sae = change(2, "person")
    Label.objects.filter(feature__index=2).delete()
    assert labels_of(sae).kinds[2] == NONE
    assert labels_of(sae).phrases[2] == 0


def test_another_sae_has_its_own(world: World) -> None:
    labels_of(SAE.objects.get())
    other = factories.make_sae(world.model, "other", d_sae=5)
    factories.make_label(factories.make_features(other)[3], "x", author=world.user)
    assert labels_of(SAE.objects.get(pk=other.pk)).kinds.tolist() == [NONE, NONE, NONE, PERSON, NONE]
