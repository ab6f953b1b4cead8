"""Who wrote the label of each feature: kept by the process, brought up to date from the log."""

from uuid import uuid4

from django.db import connection
from django.test.utils import CaptureQueriesContext

from features import label_kinds
from features.label_kinds import MODEL, NONE, PERSON, RULE, kinds_of
from features.models import SAE, Feature, Label, LabelChange
from tests import factories
from tests.factories import HOSTILES, NAMED, TIED, World


def change(sae: SAE, index: int, source: str) -> None:
    """What giving a label does, as far as it matters here; no source takes the label off."""
    feature = sae.features.get(index=index)
    label = None
    if source:
        label = Label.objects.create(feature=feature, text="x", source=source, rule="token", precision=1, n_held_out=1)
    before, feature.label = feature.label, label
    feature.save(update_fields=["label"])
    LabelChange.objects.create(sae=sae, feature=feature, index=index, before=before, after=label, batch=uuid4())


def stored(sae: SAE) -> list[int]:
    names = {"rule": RULE, "model": MODEL, "person": PERSON, None: NONE}
    return [names[source] for source in sae.features.order_by("index").values_list("label__source", flat=True)]


def test_they_follow_the_log(world: World) -> None:
    sae = SAE.objects.get()
    first = kinds_of(sae)
    assert first.tolist() == stored(sae)
    assert (first[NAMED], first[TIED], first[0]) == (PERSON, RULE, NONE)
    for steps in ([(0, "model")], [(0, "person"), (NAMED, ""), (HOSTILES, "model")], [], [(0, ""), (0, "rule")]):
        for step in steps:
            change(sae, *step)
        with CaptureQueriesContext(connection) as queries:
            found = kinds_of(sae)
        assert len(queries) == 1
        assert found.tolist() == stored(sae)
    assert first[NAMED] == PERSON  # nobody's array changes under them


def test_without_a_log_they_are_read_anew(world: World) -> None:
    kinds_of(SAE.objects.get())
    Feature.objects.filter(index=NAMED).update(label=None)
    assert kinds_of(SAE.objects.get())[NAMED] == PERSON  # nobody said so
    label_kinds.changed(world.sae.pk)
    assert kinds_of(SAE.objects.get())[NAMED] == NONE


def test_a_label_that_is_gone_counts_as_none(world: World) -> None:
    sae = SAE.objects.get()
    kinds_of(sae)
    change(sae, 2, "person")
    Label.objects.filter(feature__index=2).delete()
    assert kinds_of(sae)[2] == NONE


def test_another_sae_has_its_own(world: World) -> None:
    kinds_of(SAE.objects.get())
    other = factories.make_sae(world.model, "other", d_sae=5)
    factories.make_label(factories.make_features(other)[3], "x", author=world.user)
    assert kinds_of(SAE.objects.get(pk=other.pk)).tolist() == [NONE, NONE, NONE, PERSON, NONE]
