"""Search by meaning: phrases near in meaning are found by their signs, and new ones at once."""

import random
from typing import Any

import numpy as np
import pytest
from django.db import connection

from features.models import Phrase
from features.search import database, meaning
from features.search.embedding import WIDTH, cosines, embed, pack_vector, sign_codes
from features.search.meaning import Codes, nearest
from features.search.phrases import remember
from tests.factories import WORDS

PHRASES = ("rivers and lakes", "“money”", "capital cities", "words of a court of law", "“=” / “(”", "numbers")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test as a process of its own."""
    monkeypatch.setattr(meaning, "_kept", Codes())


@pytest.fixture(params=["the database's way", "in memory"])
def either_way(request: pytest.FixtureRequest, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in memory":
        monkeypatch.setattr(database, "has_codes", lambda alias: False)


def texts(found: list[meaning.Near]) -> list[str]:
    return [near.text for near in found]


def test_what_means_the_same_is_near(either_way: None) -> None:
    remember(PHRASES)
    assert texts(nearest("streams of water", 1)) == ["rivers and lakes"]
    assert texts(nearest("judges and lawyers", 1)) == ["words of a court of law"]
    assert nearest("money", 1)[0].cosine == pytest.approx(1, abs=0.01)
    assert "“money”" not in texts(nearest("streams of water", 9))


def test_new_phrases_are_found_at_once_and_gone_ones_are_not(either_way: None, django_assert_num_queries: Any) -> None:
    remember(PHRASES)
    nearest("warm up", 1)
    remember(["a river bank"])
    with django_assert_num_queries(1):
        found = texts(nearest("the bank of a river", 2))
    assert found[0] == "a river bank"
    Phrase.objects.filter(text="a river bank").delete()
    assert "a river bank" not in texts(nearest("the bank of a river", 9))
    remember(["the bank of a river"])
    assert texts(nearest("the bank of a river", 1)) == ["the bank of a river"]


def test_the_nearest_are_those_of_the_highest_cosines(either_way: None) -> None:
    draw = random.Random(0)
    made = {" ".join(draw.sample([word.strip() for word in WORDS[15:55]], 3)) for _ in range(1500)}
    remember(made)
    listed = sorted(made)
    vectors = embed(listed)
    recalled = 0
    for q in ("a red river", "the queen of London", "cold copper", "a doctor measured the child"):
        best = cosines(embed([q])[0], vectors)
        expected = {listed[i] for i in np.argsort(-best)[:10]}
        recalled += len(expected & set(texts(nearest(q, 10, candidates=200))))
    assert recalled >= 38  # of 40


def test_a_phrase_is_kept_once_with_its_vector(db: None) -> None:
    remember(PHRASES)
    remember([*PHRASES, "more", ""])
    assert Phrase.objects.count() == len(PHRASES) + 1
    for phrase in Phrase.objects.all():
        assert bytes(phrase.vector) == pack_vector(embed([phrase.text])[0])


def test_hostile_texts_have_vectors_or_none(db: None) -> None:
    odd = ["\u202e", "x" * 500, "語" * 500, "%s", "'; DROP TABLE", "\ufffd"]
    remember(odd)
    assert {len(bytes(vector)) for vector in Phrase.objects.values_list("vector", flat=True)} <= {0, WIDTH}
    assert Phrase.objects.count() == len(odd)
    nearest("%s", 5)


def test_a_code_is_a_bit_for_each_number() -> None:
    vector = np.zeros((1, WIDTH), np.int8)
    vector[0, [0, 9]] = 5, 1
    vector[0, 1] = -5
    assert sign_codes(vector)[0, :2].tolist() == [0b10000000, 0b01000000]
    assert pack_vector(np.zeros(WIDTH, np.int8)) == b""


@pytest.mark.postgresql
def test_postgresql_keeps_codes_of_all_phrases_and_of_no_others(db: None) -> None:
    if connection.vendor != "postgresql" or not database.has_codes("default"):
        pytest.skip("needs PostgreSQL with pgvector")
    remember(PHRASES)
    Phrase.objects.filter(text="numbers").delete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT phrase_id FROM features_phrase_code ORDER BY 1")
        kept = [key for (key,) in cursor.fetchall()]
    assert kept == sorted(Phrase.objects.values_list("pk", flat=True))
