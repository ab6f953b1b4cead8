"""Examples as they are read: a context cut into pieces of text, some of which are highlighted."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from features.store.examples import Example
from features.templatetags.reading import signif, token
from features.vocabulary import Tokens

LEVELS = 16
AROUND = (24, 12)
"""Tokens shown before and after the peak."""


@dataclass(frozen=True, slots=True)
class Piece:
    """``level`` 0 is no highlight, LEVELS the feature's maximum. ``tip`` describes the token; text between has none.
    ``peak`` is the token of the maximum, or the one on which the feature came close.

    ``lead`` is the space that a word's token begins with: it stands before the highlight, where a line may break.
    """

    text: str
    lead: str = ""
    level: int = 0
    tip: str = ""
    peak: bool = False
    special: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """``cut_before`` and ``cut_after`` say that the context goes on."""

    pieces: list[Piece]
    cut_before: bool
    cut_after: bool


def excerpt(
    tokens: Tokens, ids: NDArray[np.uint32], example: Example, maximum: float, around: tuple[int, int] = AROUND
) -> Passage:
    """The tokens around the peak, in whole characters; everything between firing tokens is one piece.

    Without a peak, the first tokens: of a context in which the feature is silent.
    """
    before, after = around
    spans = _spans(tokens, ids)
    middle = example.peak if example.peak >= 0 else before
    shown = [s for s in spans if s.stop > middle - before and s.start <= middle + after]
    pieces = list(_merged(_pieces(tokens, ids, example, maximum, shown)))
    return Passage(pieces, shown[0].start > 0, shown[-1].stop < len(ids)) if shown else Passage([], False, False)


def whole(tokens: Tokens, ids: NDArray[np.uint32], example: Example, maximum: float) -> Passage:
    """The full context; every token says what it is."""
    return Passage(list(_pieces(tokens, ids, example, maximum, _spans(tokens, ids))), False, False)


@dataclass(frozen=True, slots=True)
class _Span:
    """Tokens that make whole characters together: one, unless a character is split over several."""

    start: int
    stop: int
    text: str


def _spans(tokens: Tokens, ids: NDArray[np.uint32]) -> list[_Span]:
    spans, start = [], 0
    texts = tokens.running(ids)
    for position, text in enumerate(texts):
        if text or position == len(texts) - 1:
            spans.append(_Span(start, position + 1, text))
            start = position + 1
    return spans


def _pieces(
    tokens: Tokens, ids: NDArray[np.uint32], example: Example, maximum: float, spans: Sequence[_Span]
) -> Iterator[Piece]:
    values = example.dense(len(ids))
    for span in spans:
        inside = ids[span.start : span.stop]
        lead = " " if span.text.startswith(" ") and not span.text.isspace() else ""
        value = float(values[span.start : span.stop].max())
        peak = span.start <= example.peak < span.stop
        said = f"pre-activation {signif(example.max_value)}" if peak and not example.fires else signif(value)
        yield Piece(
            text=span.text[len(lead) :],
            lead=lead,
            level=level(value, maximum),
            tip=_tip(tokens, inside, span.start, said),
            peak=peak,
            special=any(int(i) in tokens.special for i in inside),
        )


def level(value: float, maximum: float) -> int:
    """Which of the LEVELS steps of the highlight; anything that fires shows."""
    if not (value > 0 and maximum > 0):
        return 0
    return min(LEVELS, max(1, math.ceil(LEVELS * value / maximum)))


def _merged(pieces: Iterator[Piece]) -> Iterator[Piece]:
    for plain, run in groupby(pieces, lambda p: not p.level and not p.peak and not p.special):
        if plain:
            yield Piece("".join(piece.lead + piece.text for piece in run))
        else:
            yield from run


def alone(tokens: Tokens, ids: Sequence[int] | NDArray[np.integer]) -> str:
    """Tokens outside a text: what they say, or their bytes where those are not whole characters."""
    raw = b"".join(tokens.bytes_of(int(i)) for i in ids)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"⟨{raw.hex(' ').upper()}⟩"


def _tip(tokens: Tokens, ids: NDArray[np.uint32], start: int, value: str) -> str:
    name = f"“{token(alone(tokens, ids))}”"
    if len(ids) == 1:
        where = f"id {int(ids[0])} · position {start}"
    else:
        where = f"ids {', '.join(str(int(i)) for i in ids)} · positions {start}-{start + len(ids) - 1}"
    return f"{name} · {where} · {value}"
