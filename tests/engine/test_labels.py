"""Labels on toy features whose right label is plain, and the share of held-out examples counted by hand."""

import itertools
import os
import subprocess
import sys
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jobs.engine import labels
from jobs.engine.labels import RULES, Labeller, RuleLabel

# Sixty made-up words, so that nothing is common by accident: " babo", " bace", ...
FILLER = [f" b{a}{b}{c}" for a, b, c in itertools.product("aeiou", "cdmt", "aei")]


class Example(NamedTuple):
    token_ids: np.ndarray
    peak: int


def label_all(
    tokens: Sequence[str],
    contexts: Sequence[np.ndarray],
    features: Sequence[Sequence[Example]],
    promoted: Sequence[Sequence[int]],
) -> dict[int, RuleLabel]:
    """The labels of ``features`` in a run of ``contexts`` and, after them, the examples' own."""
    examples = [(number, example) for number, feature in enumerate(features) for example in feature]
    texts = [*contexts, *(example.token_ids for _, example in examples)]
    columns = (
        np.array([number for number, _ in examples], np.int32),
        np.arange(len(contexts), len(texts), dtype=np.int64),
        np.array([example.peak for _, example in examples], np.int64),
    )
    labeller = Labeller(tokens, range(len(texts)), texts.__getitem__)
    return dict(labeller.labels(*columns, np.array(promoted, np.int64)))


class Toy:
    """A run of 60 contexts of filler, and features made by putting tokens into filler of their own."""

    def __init__(self, *tokens: str, background: Sequence[Sequence[str]] = ()) -> None:
        self.random = np.random.default_rng(0)
        self.tokens = [*FILLER, *tokens]
        self.contexts = [self.ids(*self.filler(24)) for _ in range(60)]
        self.contexts += [self.ids(*self.filler(20), *tokens) for tokens in background]

    def filler(self, n: int) -> list[str]:
        return [FILLER[i] for i in self.random.integers(len(FILLER), size=n)]

    def ids(self, *tokens: str) -> np.ndarray:
        return np.array([self.tokens.index(token) for token in tokens], dtype=np.int32)

    def example(self, before: Sequence[str], here: str, after: Sequence[str] = ()) -> Example:
        left, right = [*self.filler(8), *before], [*after, *self.filler(8)]
        return Example(self.ids(*left, here, *right), len(left))

    def label(self, examples: Sequence[Example], promoted: Sequence[str] = ()) -> RuleLabel | None:
        return label_all(self.tokens, self.contexts, [examples], [self.ids(*promoted).tolist()]).get(0)

    def text(self, examples: Sequence[Example], promoted: Sequence[str] = ()) -> tuple[str, str, float]:
        label = self.label(examples, promoted)
        assert label is not None
        return label.text, label.rule, label.precision


def test_token_whatever_its_case_and_leading_space() -> None:
    toy = Toy(" storm", "Storm", " Storm")
    examples = [toy.example([], token) for token in [" storm", " storm", "Storm", " storm", " Storm", " storm"] * 2]
    assert toy.text(examples) == ("“storm”", "token", 1.0)


def test_precision_is_the_share_of_held_out_examples() -> None:
    """Learned are examples 0, 2, 4, ...; held out are 1, 3, 5, ..., of which the storm is in two of five."""
    toy = Toy(" storm")
    held_out = [" storm", FILLER[0], FILLER[1], " storm", FILLER[2]]
    label = toy.label([toy.example([], token) for other in held_out for token in (" storm", other)])
    assert label == RuleLabel("“storm”", "token", 2 / 5, n_held_out=5, n_learned=5)


def test_a_rule_that_fails_on_held_out_examples_says_so() -> None:
    toy = Toy(" storm")
    tokens = [token for other in FILLER[:6] for token in (" storm", other)]
    assert toy.text([toy.example([], token) for token in tokens]) == ("“storm”", "token", 0.0)


def test_part_of_a_word_is_extended_to_the_word() -> None:
    toy = Toy(" hurr", "ic", "ane", " Hurr")
    examples = [toy.example([start], "ic", ["ane"]) for start in (" hurr", " hurr", " Hurr", " hurr")]
    assert toy.text(examples) == ("“hurricane”", "token", 1.0)


def test_part_of_many_words_is_shown_as_a_part() -> None:
    toy = Toy("ology")
    examples = [toy.example([start], "ology") for start in FILLER[:8]]
    assert toy.text(examples) == ("“…ology”", "token", 1.0)


def test_alternatives() -> None:
    toy = Toy(" blue", " red", " green")
    examples = [toy.example([], token) for token in [" blue", " blue", " red", " red", " green", " green"] * 3]
    assert toy.text(examples) == ("“blue” / “red” / “green”", "token", 1.0)


def test_forms_of_a_word() -> None:
    toy = Toy(" receive", " received", " receives", " receiving", " receiver")
    forms = [" receive", " receive", " received", " receives", " receiving", " receiving", " receiver", " received"]
    assert toy.text([toy.example([], form) for form in [*forms, " receive", " receive"]])[:2] == (
        "forms of “receive”",
        "form",
    )


@pytest.mark.parametrize(
    ("kind", "tokens"),
    [
        ("numbers", [" 7", " 12", " 345", " 9", " 88", " 610", " 4", " 23"]),
        ("years", [" 1914", " 1945", " 2001", " 1789", " 1812", " 2020", " 1666", " 1999"]),
        ("capitalised words", [" Alice", " Bob", " Carol", " Dora", " Edgar", " Frank", " Zoë", " Hans"]),
        ("line breaks", ["\n", "\n\n", " \n", "\n  ", "\n\n\n", "\n\t", "\n ", "\n\n "]),
        ("spaces and tabs", ["  ", "\t", "   ", "\t\t", "    ", " \t", "     ", "\t "]),
        ("opening brackets", ["(", " [", "{", "((", " {", "[[", "({", " (("]),
        ("names in code", [" fooBar", " get_it", " _x", " isA", " do_not", " __init__", " aB", " my_var"]),
        ("Cyrillic letters", [" дом", " кот", " лес", " мир", " сад", " шум", " год", " час"]),
        (
            "pieces of rare characters",
            ["\ufffd", " \ufffd", "\ufffd\ufffd", "a\ufffd", "\ufffd ", "é\ufffd", "b\ufffd"],
        ),
        ("words ending in “ness”", [" sadness", " illness", " oddness", " dimness", " wetness", " hotness"]),
    ],
)
def test_kinds_of_tokens(kind: str, tokens: list[str]) -> None:
    toy = Toy(*tokens)
    assert toy.text([toy.example([], token) for token in tokens]) == (kind, "class", 1.0)


def test_pair_when_the_neighbour_makes_it_more_specific() -> None:
    toy = Toy(" New", " York", background=[[" New", filler] for filler in FILLER])
    examples = [toy.example([], " New", [" York"]) for _ in range(10)]
    assert toy.text(examples) == ("“New” before “York”", "pair", 1.0)


def test_no_pair_when_the_neighbour_follows_anyway() -> None:
    toy = Toy(" New", " York", background=[[" New", " York"]] * 60)
    examples = [toy.example([], " New", [" York"]) for _ in range(10)]
    assert toy.text(examples) == ("“New”", "token", 1.0)


def test_kind_of_token_in_a_pair() -> None:
    numbers = [" 7", " 12", " 345", " 9", " 88", " 610", " 4", " 23", " 51", " 66"]
    toy = Toy(*numbers, " of", background=[[number] for number in numbers])
    examples = [toy.example([" of"], number) for number in numbers]
    assert toy.text(examples) == ("numbers after “of”", "pair", 1.0)


def test_after_the_token_before() -> None:
    toy = Toy(" Mis", "ter")
    examples = [toy.example([" Mis", "ter"], filler) for filler in FILLER[:12]]
    assert toy.text(examples) == ("after “Mister”", "after", 1.0)


def test_before_the_token_that_follows() -> None:
    toy = Toy("!")
    examples = [toy.example([], filler, ["!"]) for filler in FILLER[:12]]
    assert toy.text(examples) == ("before “!”", "before", 1.0)


def storms(toy: Toy) -> list[Example]:
    """Eighteen contexts with a varying peak and, somewhere, two of three words; no word is in all of them."""
    topics = itertools.cycle([(" storm", " wind"), (" wind", " rain"), (" rain", " storm")])
    return [
        toy.example([first, " the", FILLER[i], second, FILLER[-i]], FILLER[2 * i], [FILLER[-2 * i], FILLER[-3 * i]])
        for i, (first, second) in zip(range(1, 19), topics, strict=False)
    ]


def test_words_around() -> None:
    toy = Toy(" storm", " wind", " rain", " the", background=[[" the"]] * 30)
    text, rule, precision = toy.text(storms(toy))
    assert (rule, precision) == ("words", 1.0)
    assert text.startswith("text about ")
    assert set(text.removeprefix("text about ").split(", ")) == {"storm", "wind", "rain"}


def test_stopwords_are_no_subject() -> None:
    toy = Toy(" because", " would")
    examples = [toy.example([" because", FILLER[i], FILLER[-i]], FILLER[2 * i]) for i in range(1, 13)]
    assert toy.label(examples) is None


def test_promoted_tokens_when_nothing_else_holds() -> None:
    promoted = [" aa", "Ab", "\n", " ac", "ad"]
    toy = Toy(*promoted)
    examples = [toy.example([], FILLER[i], [promoted[i // 2 % 5]]) for i in range(20)]
    assert toy.text(examples, promoted) == ("promotes “aa”, “Ab”, “↵”", "logits", 1.0)


def test_promoted_tokens_that_do_not_follow_are_no_label() -> None:
    toy = Toy(" aa", "Ab")
    assert toy.label([toy.example([], FILLER[i]) for i in range(20)], [" aa", "Ab"]) is None


def test_what_is_as_common_everywhere_is_no_label() -> None:
    toy = Toy(" the", background=[[" the"] * 40] * 60)
    assert toy.label([toy.example([], " the") for _ in range(12)]) is None


def test_too_few_examples() -> None:
    toy = Toy(" storm")
    examples = [toy.example([], " storm") for _ in range(3)]
    assert toy.label(examples) is None
    assert toy.label([]) is None
    assert toy.label([*examples, toy.example([], " storm")]) == RuleLabel("“storm”", "token", 1.0, 2, 2)


def test_the_same_context_is_not_on_both_sides_of_the_split() -> None:
    toy = Toy(" storm")
    examples = [toy.example([], " storm") for _ in range(3)]
    assert toy.label(examples * 4) is None


def test_a_peak_outside_its_context_is_refused() -> None:
    toy = Toy()
    for peak in (-1, 3):
        with pytest.raises(ValueError, match=f"peak is {peak}, outside its context of 3 tokens"):
            toy.label([Example(toy.ids(*FILLER[:3]), peak)])


def test_ids_beyond_the_vocabulary_are_nameless() -> None:
    toy = Toy(" storm")
    examples = [toy.example([], " storm") for _ in range(6)]
    for example in examples:
        example.token_ids[example.peak - 1], example.token_ids[example.peak + 1] = 10**6, -1
    found = label_all(toy.tokens, toy.contexts, [examples], [[10**6, -1]])
    assert found == {0: RuleLabel("“storm”", "token", 1.0, 3, 3)}


@pytest.mark.parametrize(
    ("token", "text"),
    [
        ("\u202eevil", "“U+202Eevil”"),
        ("\x00\x1b[31m", "“␀␛[31m”"),
        ("<script>", "“<script>”"),
        (" \t\r\n", "“⇥␍↵”"),
        ("   ", "“␣␣␣”"),
        ("\u2028", "“U+2028”"),
        ("\ud800", "“U+D800”"),
        ("\u0301", "“◌\u0301”"),
        ("-" * 5000, "“" + "-" * 23 + "…”"),
    ],
)
def test_hostile_tokens_are_shown_harmless(token: str, text: str) -> None:
    toy = Toy(token)
    assert toy.text([toy.example([], token) for _ in range(10)]) == (text, "token", 1.0)


@pytest.mark.parametrize("n_tokens", [1, 2, 3])
def test_long_alternatives_and_pairs_stay_short(n_tokens: int) -> None:
    tokens = [f" {letter * 40}" for letter in "xyz"]
    toy = Toy(*tokens, " " + "q" * 40, background=[[tokens[i % 3]] for i in range(60)])
    label = toy.label([toy.example([], tokens[i // 2 % n_tokens], [" " + "q" * 40]) for i in range(18)])
    assert label is not None
    assert label.text.count("“") == (n_tokens if label.rule == "token" else n_tokens + 1)
    assert len(label.text) <= 60


def test_a_long_run_is_sampled_from_all_its_positions() -> None:
    """More positions than are kept, in contexts as long as the strides: "the" is every second token, so no label."""
    toy = Toy(" the")
    contexts = [toy.ids(*(t for i in range(8) for t in (FILLER[(n + i) % 60], " the"))) for n in range(6000)]
    assert not label_all(toy.tokens, contexts, [[toy.example([], " the") for _ in range(12)]], [[]])


def test_features_have_the_labels_they_would_have_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at once, some without examples or with too few, whichever are worked out together."""
    toy = Toy(" storm", " wind", " rain", " the", " calm", background=[[" the"]] * 200)
    calm = [toy.example([], token) for token in [" calm", " calm", " rain", " storm"] * 4]
    features = [storms(toy), [], calm, calm[:3], storms(toy)[2:], calm[4:]]
    together = label_all(toy.tokens, toy.contexts, features, [[]] * 6)
    assert {number: label.rule for number, label in together.items()} == {
        0: "words",
        2: "token",
        4: "words",
        5: "token",
    }
    monkeypatch.setattr(labels, "_AT_ONCE", 10)
    assert label_all(toy.tokens, toy.contexts, features, [[]] * 6) == together


def test_no_examples_at_all() -> None:
    assert label_all(["a"], [], [], []) == {}


def every_label() -> list[RuleLabel | None]:
    toy = Toy(" storm", " wind", " rain", " the", " calm")
    calm = [toy.example([], token) for token in [" calm", " wind", " rain", " storm"] * 4]
    return [toy.label(storms(toy)), toy.label(calm), toy.label(storms(toy), [" calm"])]


@pytest.mark.parametrize("seed", ["1", "2"])
def test_the_same_examples_give_the_same_labels_in_any_process(seed: str) -> None:
    code = "from tests.engine.test_labels import every_label; print(every_label())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    assert run.stdout.strip() == str(every_label())


TOKENS = st.lists(
    st.text(max_size=12) | st.sampled_from(["\ufffd", " the", "1", "…", "“", " a"]), min_size=1, max_size=12
)
CONTEXTS = st.lists(arrays(np.int32, st.integers(1, 12), elements=st.integers(-2, 13)), max_size=14)


@given(TOKENS, CONTEXTS, CONTEXTS, st.lists(st.integers(-2, 13), max_size=6), st.data())
def test_any_tokens_and_examples_give_a_sound_label_or_none(
    tokens: list[str], contexts: list[np.ndarray], cited: list[np.ndarray], promoted: list[int], data: st.DataObject
) -> None:
    examples = [Example(ids, data.draw(st.integers(0, len(ids) - 1))) for ids in cited]
    label = label_all(tokens, contexts, [examples], [promoted]).get(0)
    if label is None:
        return
    assert label.rule in RULES
    assert 0 < len(label.text) <= 60
    assert not any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for c in label.text)
    assert 0 <= label.precision <= 1
    assert label.n_learned + label.n_held_out == len({ids.tobytes() for ids in cited})
    assert label == label_all(tokens, contexts, [examples], [promoted])[0]
