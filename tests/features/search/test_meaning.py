"""Search by meaning: phrases near in meaning are found by their signs, and new ones at once."""

import random
from typing import Any

import numpy as np
import pytest
from django.db import connection

from features.models import Phrase
from features.search import database, meaning
from features.search.embedding import WIDTH, cosines, embed, pack_codes, sign_codes
from features.search.meaning import Codes, nearest
from features.search.phrases import remember
from tests.factories import WORDS

PHRASES = ("rivers and lakes", "“money”", "capital cities", "words of a court of law", "“=” / “(”", "numbers")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test as a process of its own."""
    monkeypatch.setattr(meaning, "_kept", Codes())


@pytest.fixture(params=["few", "without pgvector", "too many to keep"])
def either_way(request: pytest.FixtureRequest, db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "without pgvector":
        monkeypatch.setattr(database, "has_signs", lambda alias: False)
    if request.param == "too many to keep":
        monkeypatch.setattr(meaning, "MOST_KEPT", -1)


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


def test_among_some_phrases_alone(either_way: None) -> None:
    made = [f"rivers and lakes {n}" for n in range(40)]
    remember([*made, *PHRASES])
    keys = dict(Phrase.objects.values_list("text", "pk"))
    chosen = {"capital cities", *made[5:8]}
    among = np.zeros(1 + max(keys[text] for text in chosen), bool)
    among[[keys[text] for text in chosen]] = True
    found = set(texts(nearest("rivers and lakes", 9, candidates=20, among=among)))
    assert found
    assert found <= chosen
    remember(["rivers and lakes, newer"])
    assert "rivers and lakes, newer" not in texts(nearest("rivers and lakes", 9, candidates=20, among=among))
    assert nearest("rivers and lakes", 9, among=np.zeros(0, bool)) == []


def test_a_phrase_is_kept_once_with_its_signs(either_way: None) -> None:
    remember(PHRASES)
    remember([*PHRASES, "more", ""])
    assert Phrase.objects.count() == len(PHRASES) + 1
    signs = "code" if not database.has_signs("default") else "signs"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT text, {signs} FROM features_phrase")  # noqa: S608 - a name of our own
        for text, kept in cursor.fetchall():
            (code,) = pack_codes(embed([text]))
            assert (int(kept, 2).to_bytes(32, "big") if signs == "signs" else bytes(kept)) == code


def test_hostile_texts_have_signs_or_none(monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    monkeypatch.setattr(database, "has_signs", lambda alias: False)
    odd = ["\u202e", "x" * 500, "語" * 500, "%s", "'; DROP TABLE", "\ufffd"]
    remember(odd)
    assert {len(bytes(code)) for code in Phrase.objects.values_list("code", flat=True)} <= {0, WIDTH // 8}
    assert Phrase.objects.count() == len(odd)
    nearest("%s", 5)


def test_a_code_is_a_bit_for_each_number() -> None:
    vector = np.zeros((1, WIDTH), np.int8)
    vector[0, [0, 9]] = 5, 1
    vector[0, 1] = -5
    assert sign_codes(vector)[0, :2].tolist() == [0b10000000, 0b01000000]
    assert pack_codes(vector) == [sign_codes(vector)[0].tobytes()]
    assert pack_codes(np.zeros((1, WIDTH), np.int8)) == [b""]


@pytest.mark.postgresql
def test_signs_take_the_place_of_codes_where_pgvector_comes_later(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if connection.vendor != "postgresql" or not database.has_signs("default"):
        pytest.skip("needs PostgreSQL with pgvector")
    with monkeypatch.context() as before:
        before.setattr(database, "has_signs", lambda alias: False)
        remember(PHRASES)
    monkeypatch.setattr(meaning, "MOST_KEPT", -1)
    assert nearest("streams of water", 1) == []
    database.make_signs(connection)
    assert texts(nearest("streams of water", 1)) == ["rivers and lakes"]
    assert not Phrase.objects.exclude(code=b"").exists()
