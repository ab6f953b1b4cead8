"""The facts of many positions at once, against one position at a time in plain Python."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jobs.engine.label_facts import NONE, REACH, FactFinder
from jobs.engine.label_words import KINDS, SUFFIX, bare, classes, first_run, is_word, last_run

PIECES = [" wind", "mill", "s", "_", " ", "", "\ufffd", ", ", "(", "  in", "7", "Éa ", "-x", "x-", "①", "\n"]
TOKENS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), min_size=1, max_size=20)


def facts_of(texts: list[str], at: int) -> dict[str, tuple[str, str]]:
    """By kind the name of each fact and how it is written; ``texts`` are the tokens of the window."""
    here, left, right = texts[at], "".join(texts[:at]), "".join(texts[at + 1 :])
    last_word, next_word = last_run(left), first_run(right.removeprefix(" "))
    joins_left = bool(last_word) and is_word(here[:1])
    joins_right = bool(next_word) and is_word(right[:1]) and is_word(here[-1:])
    core, opening, closing = bare(here), "…" * joins_left, "…" * joins_right
    word = last_word * joins_left + core + next_word * joins_right if core else ""
    after = last_word + opening if last_word else bare(texts[at - 1]) if at else ""
    before = closing + next_word if next_word else bare(texts[at + 1]) if at + 1 < len(texts) else ""
    written = {"word": word, "token": opening + core + closing if core else "", "after": after, "before": before}
    found = {kind: (text.casefold(), text) for kind, text in written.items() if text}
    if core:
        found["token"] = core.casefold(), written["token"]
    if word.isalpha():
        found["form"] = SUFFIX.sub("", word.casefold()), word
    found["class"] = " / ".join(classes(word, here, joins_left, joins_right)), ""
    return found


@given(TOKENS, st.lists(st.integers(-1, 21), min_size=1, max_size=24))
def test_every_fact_of_every_position(tokens: list[str], ids: list[int]):
    finder = FactFinder(tokens)
    texts = [tokens[i] if 0 <= i < len(tokens) else "" for i in ids]
    padded = np.array([*[NONE] * REACH, *ids, *[NONE] * REACH], np.int32)
    found = finder.find(np.lib.stride_tricks.sliding_window_view(padded, 2 * REACH + 1))
    for at in range(len(ids)):
        first = max(0, at - REACH)
        want = facts_of(texts[first : at + REACH + 1], at - first)
        got = {
            kind: (finder.names[column[at]], finder.spellings[found.spelling[kind][at]])
            for kind, column in found.number.items()
            if kind != "logits" and column[at] != NONE
        }
        got["class"] = " / ".join(finder.names[i] for i in found.classes_of(slice(at, at + 1))[0]), ""
        assert got == want
        assert found.number["logits"][at] == (ids[at + 1] if at + 1 < len(ids) else NONE)


@given(st.text(max_size=6) | st.sampled_from(PIECES))
def test_classes_are_all_kinds_that_fit(word: str):
    named = [name for name, _ in KINDS]
    got = [kind for kind in classes(word, "a", False, True) if kind in named]
    assert got == [name for name, pattern in KINDS if pattern.fullmatch(word)]
