"""Numbers and tokens as people read them."""

import pytest

from features.templatetags.reading import bound, held, one_in, percent, signif, to_text, token, visible
from tests.factories import World


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (3.14159, "3.14"),
        (1234.5, "1,234"),
        (0.00123456, "0.00123"),
        (-0.5, "-0.500"),
        (float("nan"), "\N{EN DASH}"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert signif(value) == text


@pytest.mark.parametrize(("share", "text"), [(0.00238, "0.24 %"), (0.137, "13.7 %"), (0.0, "0 %"), (1e-6, "0.00010 %")])
def test_percentages(share: float, text: str) -> None:
    assert percent(share).replace("\xa0", " ") == text


@pytest.mark.parametrize(("density", "text"), [(1 / 420, "1 in 420"), (0.4, "1 in 2.5"), (0.0, ""), (0.9, "")])
def test_one_in(density: float, text: str) -> None:
    assert one_in(density) == text


def test_the_rule_of_three() -> None:
    assert bound(3000) == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("a\nb", "a↵b"),
        ("\x00\x1b", "␀␛"),
        ("\u202eevil", "⟨U+202E⟩evil"),
        ("zero\u200bwidth", "zero⟨U+200B⟩width"),
        ("👩\u200d🔬", "👩\u200d🔬"),  # a joiner is part of how it is written
        ("a\xa0b", "a\xa0b"),
    ],
)
def test_every_character_shows(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_newlines_break_where_asked() -> None:
    assert visible("a\nb", "1") == "a↵\nb"


@pytest.mark.parametrize(("text", "shown"), [("  ", "␣␣"), ("", "∅"), (" a", " a"), ("\n", "↵"), ("\t", "⇥")])
def test_a_token_alone_shows_its_spaces(text: str, shown: str) -> None:
    assert token(text) == shown


def test_long_values_of_a_record_are_cut() -> None:
    assert len(to_text("x" * 10_000)) == 500


@pytest.mark.django_db
def test_a_rules_hits_are_counted(world: World) -> None:
    label = world.sae.features.get(index=5).label
    assert label is not None
    assert held(label) == 9
