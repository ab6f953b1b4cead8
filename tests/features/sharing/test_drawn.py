"""Pages that were drawn once: taken from the row if it is what was drawn here, else drawn anew from the JSON."""

import zlib
from typing import Any

import pytest

from features.models import Snapshot
from features.sharing import drawn, freezing, rendering
from tests.factories import World


@pytest.fixture
def snapshot(world: World) -> Snapshot:
    made = freezing.freeze("feature", {"sae": world.sae.slug, "index": 9}, world.user)
    return Snapshot.objects.get(pk=made.pk)


def test_freezing_draws_the_page(snapshot: Snapshot, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        assert drawn.find(snapshot) == rendering.evidence_html(freezing.read(snapshot))
        assert freezing.page_of(snapshot) == drawn.find(snapshot)


@pytest.mark.parametrize(
    "change",
    [
        {"page": zlib.compress(b"<h1>another page</h1>")},
        {"page": b"no page"},
        {"page": b""},
        {"page_mark": "0" * 64},
        {"page_mark": ""},
    ],
)
def test_a_page_that_was_changed_is_not_shown_but_drawn_anew(
    snapshot: Snapshot, change: dict[str, bytes | str]
) -> None:
    right = freezing.page_of(snapshot)
    Snapshot.objects.filter(pk=snapshot.pk).update(**change)
    changed = Snapshot.objects.get(pk=snapshot.pk)
    assert drawn.find(changed) is None
    assert freezing.page_of(changed) == right
    assert drawn.find(Snapshot.objects.get(pk=snapshot.pk)) == right


def test_another_snapshots_page_is_not_taken(snapshot: Snapshot, world: World) -> None:
    other = freezing.freeze("run", {"run": world.run.pk}, world.user)
    other.refresh_from_db()
    Snapshot.objects.filter(pk=snapshot.pk).update(page=other.page, page_mark=other.page_mark)
    assert drawn.find(Snapshot.objects.get(pk=snapshot.pk)) is None


def test_other_code_and_another_secret_key_draw_anew(
    snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch, settings: Any
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(drawn, "_code", lambda: "another")
        assert drawn.find(snapshot) is None
    assert drawn.find(snapshot)
    settings.SECRET_KEY = "another"
    assert drawn.find(snapshot) is None
