"""From token ids to strings without a tokenizer."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from features.store.contexts import pack_ids
from features.vocabulary import Tokens, tokens_of
from tests.factories import BOS, IDS, SPLIT, TOKENS, World, encode

BYTES = Tokens(bytes(range(256)), np.arange(1, 257, dtype=np.uint32), frozenset(), "")


@given(st.binary(max_size=60))
def test_running_tokens_join_to_the_text(raw: bytes) -> None:
    pieces = BYTES.running(list(raw))
    assert len(pieces) == len(raw)
    assert "".join(pieces) == raw.decode("utf-8", "replace")


@given(st.lists(st.lists(st.integers(-1, 300), max_size=20), max_size=5), st.sampled_from(["", " "]))
def test_rows_decode_to_what_runs(rows: list[list[int]], joiner: str) -> None:
    ends = np.append(BYTES.ends, [257, 259]).astype(np.uint32)
    tokens = Tokens(BYTES.raw + SPLIT.encode(), ends, frozenset(), joiner)
    expected = ["".join(tokens.running(row)).replace("\0", "\ufffd") for row in rows]
    assert tokens.decode([np.array(row, np.int64) for row in rows]) == expected


def test_a_split_character_stands_at_the_token_that_ends_it() -> None:
    assert BYTES.running(list("a語".encode())) == ["a", "", "", "語"]


def test_a_token_that_is_a_part_of_a_character_shows_as_broken() -> None:
    assert BYTES.text_of(0xE8) == "\ufffd"


def test_tokens_come_from_the_models_row(world: World) -> None:
    tokens = tokens_of(world.model)
    assert tokens.special == {0, 1}
    assert tokens.text_of(IDS[b" river"]) == " river"
    assert tokens.texts([BOS, IDS[b"\n"]]) == ["<|bos|>", "\n"]
    assert "".join(tokens.running(encode(f" the {SPLIT}\n"))) == f" the {SPLIT}\n"
    assert len(tokens.ends) == len(TOKENS)


def test_padded_rows_of_an_embedding_have_no_text(world: World) -> None:
    tokens = tokens_of(world.model)
    assert tokens.text_of(len(TOKENS)) == ""
    assert tokens.text_of(-1) == ""


def test_a_joiner_stands_after_each_token() -> None:
    tokens = Tokens(b"ab", np.array([1, 2], np.uint32), frozenset(), " ")
    assert tokens.running([0, 1]) == ["a ", "b "]


def test_a_key_that_comes_again_with_other_tokens_shows_the_other_tokens(world: World) -> None:
    first = tokens_of(world.model).texts(range(5))
    vocabulary = world.model.vocabulary
    vocabulary.raw, vocabulary.ends = b"abcde", pack_ids([1, 2, 3, 4, 5])
    vocabulary.save()
    world.model.tokenizer_digest = "another"
    assert tokens_of(world.model).texts(range(5)) == list("abcde") != first
