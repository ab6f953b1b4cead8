"""Rows written in bulk: what went in comes out, of any length, or nothing does."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from features.models import Context, Feature, Label, Run
from jobs import bulk
from tests import factories

pytestmark = pytest.mark.django_db

COLUMNS = ("run", "number", "document_id", "document_source", "offset", "token_ids", "features")
HOSTILE = '\'); DROP TABLE features_run; --\t\\N\\.\n"%s" \N{PILE OF POO}'


@pytest.fixture
def run() -> Run:
    return factories.make_run(factories.make_sae(factories.make_model()), factories.make_corpus())


def row(run: Run, number: int, text: str = "", packed: bytes = b"") -> tuple[Any, ...]:
    return run.pk, number, text, "source", 0, packed, packed


@pytest.mark.parametrize("n", [0, 1, bulk.BATCH, 2 * bulk.BATCH + 1])
def test_every_row_is_written(run: Run, n: int) -> None:
    bulk.insert(Context, COLUMNS, (row(run, number, str(number)) for number in range(n)))
    found = Context.objects.filter(run=run).order_by("number").values_list("number", "document_id")
    assert list(found) == [(number, str(number)) for number in range(n)]


def test_bytes_and_hostile_text_come_back_as_they_went_in(run: Run) -> None:
    packed = bytes(range(256)) + b"\\x00\n"
    bulk.insert(Context, COLUMNS, [row(run, 1, HOSTILE, packed)])
    context = Context.objects.get(run=run)
    assert (context.document_id, bytes(context.token_ids)) == (HOSTILE, packed)


def test_what_no_column_holds_of_a_text_is_replaced(run: Run) -> None:
    texts = {"a\0b": "a\ufffdb", "\ud800é": "\ufffdé", "\ud83d\ude00": "😀", "\ufeff": "\ufeff"}
    bulk.insert(Context, COLUMNS, [row(run, i, text) for i, text in enumerate(texts)])
    assert list(Context.objects.order_by("number").values_list("document_id", flat=True)) == list(texts.values())


def test_values_of_every_kind(run: Run) -> None:
    feature = factories.make_features(run.sae)[0]
    columns = ("feature", "run", "source", "text", "rule", "precision", "n_held_out", "author", "created_at")
    now = timezone.now()
    bulk.insert(Label, columns, [(feature.pk, run.pk, "rule", "its word", "token", 1 / 3, 7, None, now)])
    label = Label.objects.get()
    assert (label.feature, label.run, label.precision, label.author, label.created_at) == (
        feature,
        run,
        1 / 3,
        None,
        now,
    )


@pytest.mark.django_db(transaction=True)
def test_a_fault_on_the_way_leaves_nothing_and_the_connection_goes_on(run: Run) -> None:
    def rows() -> Iterator[tuple[Any, ...]]:
        yield from (row(run, number) for number in range(bulk.BATCH + 1))
        raise OSError("the disk went away")

    with pytest.raises(OSError, match="the disk went away"), transaction.atomic():
        bulk.insert(Context, COLUMNS, rows())
    assert not Context.objects.exists()
    with pytest.raises(DatabaseError), transaction.atomic():
        bulk.insert(Context, COLUMNS, [row(run, 1), row(run, 1)])
    assert not Context.objects.exists()
    with transaction.atomic():
        bulk.insert(Context, COLUMNS, [row(run, 1)])
    assert Context.objects.count() == 1


def test_reserved_keys_are_new_and_stay_so(run: Run) -> None:
    feature = factories.make_features(run.sae)[0]
    old = factories.make_label(feature, "old", run=run)
    keys = bulk.reserve(Label, 3)
    assert len(set(keys)) == 3 and old.pk not in keys
    columns = ("id", "feature", "run", "source", "text", "rule", "precision", "n_held_out", "created_at")
    values = (feature.pk, run.pk, "rule", "new", "token", 0.5, 2, timezone.now())
    bulk.insert(Label, columns, [(key, *values) for key in keys])
    assert factories.make_label(feature, "newer", run=run).pk not in keys
    assert Label.objects.count() == 5
    assert bulk.reserve(Label, 0) == []


def test_updates_reach_their_rows_alone(run: Run) -> None:
    features = factories.make_features(run.sae)
    label = factories.make_label(features[0], "a", run=run)
    bulk.update(Feature, "label", ((feature.pk, label.pk) for feature in features[1:3]))
    assert list(Feature.objects.filter(label=label).order_by("index").values_list("index", flat=True)) == [0, 1, 2]


def test_memory_does_not_grow_with_the_rows(run: Run) -> None:
    """SQLite has taken a batch before the third is made; PostgreSQL is sent each row as it is made."""
    made = 0

    def rows() -> Iterator[tuple[Any, ...]]:
        nonlocal made
        for number in range(3 * bulk.BATCH):
            made += 1
            yield row(run, number)
            if connection.vendor == "sqlite" and made == 2 * bulk.BATCH + 1:
                assert Context.objects.count() == 2 * bulk.BATCH

    bulk.insert(Context, COLUMNS, rows())
    assert made == Context.objects.count() == 3 * bulk.BATCH
