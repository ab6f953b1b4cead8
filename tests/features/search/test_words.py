"""How texts and queries are cut, and where a text holds what was asked for."""

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from features.search.query import Query, QueryError
from features.search.words import LONGEST, indexed, split
from tests.features.search import brute_force

TEXTS = st.text("ab éÉßz09_-.\"'/東京あ\n", max_size=24)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("np.array([1])", ["np", "array", "1"]),
        ("snake_case -x", ["snake", "case", "x"]),
        ("東京タワー tower", ["東", "京", "タ", "ワ", "ー", "tower"]),
        ("Straße ÉTÉ", ["strasse", "été"]),
        ("İstanbul", ["i", "stanbul"]),  # its small letter is two characters, of which one is no letter
        ("“…” ¡!", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert split(text) == words
    assert indexed(text) == " ".join(words)


def test_an_index_holds_the_start_of_a_long_word() -> None:
    assert indexed("x" * 500) == "x" * LONGEST


@given(TEXTS, TEXTS)
def test_a_query_finds_what_reading_word_by_word_finds(q: str, text: str) -> None:
    query = Query.parse(q)
    assume(query.phrases and not query.literals)
    assert query.matches(text) == brute_force.mentions(query.text, text)
    assert query.label_matches(text) == brute_force.labels(query.text, text)


@given(TEXTS, TEXTS)
def test_marks_lie_on_what_was_found(q: str, text: str) -> None:
    query = Query.parse(q)
    assume(query)
    spans = query.spans(text)
    assert bool(spans) == query.matches(text)
    assert all(a < b for a, b in spans)
    assert all(before[1] < after[0] for before, after in pairwise(spans))
    found = " ".join(text[start:stop] for start, stop in spans)
    assert all(word in found.casefold() for word in query.words) or not spans


@pytest.mark.parametrize(
    ("q", "text", "marked"),
    [
        ("river bank", "Bank of the RIVER, bankers", ["Bank", "RIVER", "bankers"]),
        ('"of the"', "of. The of the", ["of. The", "of the"]),
        ("alert(1)", "x alert(1) y", ["alert(1"]),
        ("strasse", "die Straße", ["Straße"]),
        ("!=", "a != b", ["!="]),
        ("京", "東京", ["京"]),
    ],
)
def test_marks(q: str, text: str, marked: list[str]) -> None:
    assert [text[a:b] for a, b in Query.parse(q).spans(text)] == marked


def test_marks_within_words_of_labels() -> None:
    assert Query.parse("iver").label_spans("“River” / “driver”") == [(2, 6), (13, 17)]
    assert Query.parse("iv").label_spans("“River”") == []


def test_what_cannot_be_searched_for_is_refused_with_a_sentence() -> None:
    with pytest.raises(QueryError, match="at most 200 characters"):
        Query.parse("x" * 201)
    with pytest.raises(QueryError, match="NUL"):
        Query.parse("a\0b")
    assert not Query.parse('  ""  ')
