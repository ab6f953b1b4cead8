"""Examples as they are read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.passages import LEVELS, alone, excerpt, level, passage_html, read_values, whole
from features.store.examples import NEAR_MISS, SILENT, Example
from features.vocabulary import Tokens

BYTES = [b"<bos>"] + [bytes([b]) for b in range(256)] + [b" word", b"\n", b" "]
TOKENS = Tokens(b"".join(BYTES), np.cumsum([len(b) for b in BYTES]).astype(np.uint32), frozenset([0]), "")


def example(values: dict[int, float], band: int = 0) -> Example:
    positions = sorted(values)
    return Example(0, band, np.array(positions, np.int64), np.array([values[p] for p in positions], np.float32))


def ids(text: str) -> np.ndarray:
    return np.array([b + 1 for b in text.encode()], np.uint32)


def test_text_between_firing_tokens_is_one_piece() -> None:
    passage = excerpt(TOKENS, ids("abcdef"), example({2: 4.0, 4: 1.0}), 4.0)
    assert [(p.lead + p.text, p.level) for p in passage.pieces] == [
        ("ab", 0),
        ("c", LEVELS),
        ("d", 0),
        ("e", 4),
        ("f", 0),
    ]
    assert [p.peak for p in passage.pieces] == [False, True, False, False, False]
    assert not passage.cut_before
    assert not passage.cut_after


def test_an_excerpt_cuts_around_the_peak_and_says_so() -> None:
    passage = excerpt(TOKENS, ids("abcdefghij"), example({5: 1.0}), 1.0, (3, 2))
    assert "".join(p.text for p in passage.pieces) == "cdefgh"
    assert passage.cut_before
    assert passage.cut_after


def test_an_excerpt_of_a_silent_context_is_its_beginning() -> None:
    passage = excerpt(TOKENS, ids("abcdefghij"), example({}, SILENT), 0.0, (3, 2))
    assert "".join(p.text for p in passage.pieces) == "abcdef"
    assert not any(p.peak for p in passage.pieces)
    assert not passage.cut_before
    assert passage.cut_after


def test_a_near_miss_is_marked_without_a_highlight_and_says_what_it_came_to() -> None:
    marked = [p for p in excerpt(TOKENS, ids("abc"), example({1: -0.5}, NEAR_MISS), 4.0).pieces if p.peak]
    assert [(p.text, p.level) for p in marked] == [("b", 0)]
    assert marked[0].tip.endswith("position 1 · pre-activation -0.500")


@given(st.text(st.sampled_from("aé語🙂 "), min_size=1, max_size=30), st.data())
def test_excerpts_never_break_a_character(text: str, data: st.DataObject) -> None:
    row = ids(text)
    peak = data.draw(st.integers(0, len(row) - 1))
    around = data.draw(st.tuples(st.integers(1, 8), st.integers(0, 8)))
    shown = "".join(p.lead + p.text for p in excerpt(TOKENS, row, example({peak: 1.0}), 1.0, around).pieces)
    assert "\ufffd" not in shown
    assert shown in text
    assert shown


@given(st.binary(min_size=1, max_size=40), st.data())
def test_the_whole_context_is_the_whole_text(raw: bytes, data: st.DataObject) -> None:
    row = np.frombuffer(raw, np.uint8).astype(np.uint32) + 1
    peak = data.draw(st.integers(0, len(row) - 1))
    passage = whole(TOKENS, row, example({peak: 1.0}), 1.0)
    assert "".join(p.lead + p.text for p in passage.pieces) == raw.decode("utf-8", "replace")
    assert sum(p.peak for p in passage.pieces) == 1


def test_tips_name_token_id_position_and_value() -> None:
    row = np.array([0, 257, 0xE8 + 1], np.uint32)
    tips = [p.tip for p in whole(TOKENS, row, example({1: 2.5}), 2.5).pieces]
    assert tips == [
        "“<bos>” · id 0 · position 0 · 0",
        "“ word” · id 257 · position 1 · 2.50",
        "“⟨E8⟩” · id 233 · position 2 · 0",
    ]


def test_a_text_with_a_value_for_each_token() -> None:
    passage = read_values(TOKENS, ids("ab語"), [0, 2, 0, 0.5, 0], 4.0)
    assert [(p.text, p.level, p.peak) for p in passage.pieces] == [("a", 0, False), ("b", 8, True), ("語", 2, False)]
    assert [p.tip.rsplit(" · ")[-1] for p in passage.pieces] == ["0", "2.00", "0.500"]
    shown = passage_html(passage, breaks=True)
    assert shown.count("data-tip=") == 3
    assert shown.count('tabindex="0"') == shown.count(" peak") == 1
    assert not any(p.peak for p in read_values(TOKENS, ids("ab"), [0, 0], 4.0).pieces)
    assert read_values(TOKENS, [], [], 4.0).pieces == []


def test_its_html_is_escaped_and_says_only_what_is_asked() -> None:
    row = np.array([0, *ids("<&"), 257, 258, *ids("é")], np.uint32)
    passage = excerpt(TOKENS, row, example({1: 1.0, 3: 2.0}), 2.0)
    tip = 'data-tip="“&lt;” · id 61 · position 1 · 1.00" tabindex="-1"'
    assert passage_html(passage) == (
        '<p class="passage" dir="auto"><span class="special">&lt;bos&gt;</span>'
        f'<mark class="a8" {tip}><bdi>&lt;</bdi></mark>&amp; <mark class="a16 peak" '
        'data-tip="“ word” · id 257 · position 3 · 2.00" tabindex="0"><bdi>word</bdi></mark>↵é</p>'
    )
    still = passage_html(passage, still=True)
    assert "data-tip" not in still
    assert "tabindex" not in still
    assert "↵\n" in passage_html(whole(TOKENS, row, example({1: 1.0}), 2.0), breaks=True)


def test_special_tokens_are_marked() -> None:
    (piece, _) = excerpt(TOKENS, np.array([0, 257], np.uint32), example({1: 1.0}), 1.0).pieces
    assert piece.special
    assert piece.level == 0


@pytest.mark.parametrize(("value", "expected"), [(0.0, 0), (1e-9, 1), (0.5, 8), (1.0, 16), (1.01, 16), (-1.0, 0)])
def test_levels(value: float, expected: int) -> None:
    assert level(value, 1.0) == expected


def test_pieces_of_characters_alone_show_their_bytes() -> None:
    assert alone(TOKENS, [0xE8 + 1, 0xAA + 1]) == "⟨E8 AA⟩"
    assert alone(TOKENS, [9999]) == ""
