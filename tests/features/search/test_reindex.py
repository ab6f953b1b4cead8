"""What keeps search in step: the command, the migration, and what comes back after a table was written anew."""

import pytest
from django.core.management import call_command
from django.db import connection

from features import shown_labels
from features.models import ContextWords, Label, Phrase, Run
from features.search import database, filling
from features.search.phrases import remember
from features.search.text import indexes_matching
from tests.factories import NAMED, World


def test_it_adds_what_is_missing_and_forgets_what_nobody_says(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    Phrase.objects.filter(text="cities, by Ada").delete()
    remember(
        ["nobody says this", "“ river”", *Label.objects.exclude(text="cities, by Ada").values_list("text", flat=True)]
    )
    call_command("reindex")
    assert "1 phrases and the words of 1 runs were added, 1 unused phrases removed." in capsys.readouterr().out
    assert set(Phrase.objects.values_list("text", flat=True)) == set(Label.objects.values_list("text", flat=True))
    before = list(ContextWords.objects.order_by("pk").values_list("packed", flat=True))
    assert indexes_matching(Run.objects.get(), "by Ada").indexes.tolist() == [NAMED]
    call_command("reindex", "--anew")
    assert "3 phrases and the words of 1 runs" in capsys.readouterr().out
    assert [bytes(b) for b in before] == [bytes(b) for b in ContextWords.objects.values_list("packed", flat=True)]
    assert indexes_matching(Run.objects.get(), "by Ada").indexes.tolist() == [NAMED]


def matching(world: World, q: str) -> list[int]:
    """The test writes over a label, which nobody else does."""
    shown_labels.changed(world.sae.pk)
    found: list[int] = indexes_matching(Run.objects.get(), q).indexes.tolist()
    return found


def test_full_text_that_was_lost_is_made_again(world: World) -> None:
    """As when Django writes a table of SQLite anew, which drops its triggers; or where somebody dropped an index."""
    filling.fill(connection)
    database.drop(connection)
    remember(["written without triggers"])
    label = Label.objects.get(text="cities, by Ada")
    Label.objects.filter(pk=label.pk).update(text="written without triggers")
    database.make(connection)
    assert matching(world, "out trigg") == [NAMED]
    remember(["written with triggers"])
    Label.objects.filter(pk=label.pk).update(text="written with triggers", explanation="Zebras!")
    assert matching(world, "with triggers") == [NAMED]
    assert matching(world, "zebras") == [NAMED]
    Label.objects.filter(pk=label.pk).update(explanation="")
    assert matching(world, "zebras") == []
