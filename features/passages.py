"""Examples as they are read: a context cut into pieces of text, some of which are highlighted, and their HTML.

A page shows thousands of tokens, so only those that are marked are looked at one by one.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

import numpy as np
from django.utils.safestring import SafeString
from numpy.typing import NDArray

from features.store.examples import Example
from features.templatetags.reading import signif, token, visible
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
    tokens: Tokens, ids: NDArray[np.integer], example: Example, maximum: float, around: tuple[int, int] = AROUND
) -> Passage:
    """The tokens around the peak, in whole characters; everything between firing tokens is one piece.

    Without a peak, the first tokens: of a context in which the feature is silent.
    """
    row = _Row.of(tokens, ids, example, maximum)
    first, last = _near_peak(row, around)
    if first >= last:
        return Passage([], False, False)
    texts = tokens.wholes(row.ids[max(0, first - 1) : last])
    if all(texts):  # each token is a span of its own, whatever stands around it
        spaced = _spaced(texts[1:] if first else texts, tokens.joiner)
        return Passage(list(_between(row, spaced, first, last)), first > 0, last < len(row.ids))
    shown = [span for span in _spans(tokens, row.ids) if span.stop > first and span.start < last]
    return Passage(list(_merged(row, shown)), shown[0].start > 0, shown[-1].stop < len(row.ids))


def in_context(
    tokens: Tokens, ids: NDArray[np.integer], example: Example, maximum: float
) -> tuple[list[Piece], Passage, list[Piece]]:
    """The excerpt, between what stands before and after it in its context."""
    row = _Row.of(tokens, ids, example, maximum)
    first, last = _near_peak(row, AROUND)
    texts = tokens.wholes(row.ids)
    if not all(texts):
        spans = _spans(tokens, row.ids)
        parts = (
            [span for span in spans if span.stop <= first],
            [span for span in spans if span.stop > first and span.start < last],
            [span for span in spans if span.start >= last],
        )
        before, shown, after = (list(_merged(row, part)) if part else [] for part in parts)
        return before, Passage(shown, bool(parts[0]), bool(parts[2])), after
    spaced = _spaced(texts, tokens.joiner)
    cuts = ((0, first), (first, last), (last, len(spaced)))
    before, shown, after = (list(_between(row, spaced[a:b], a, b)) for a, b in cuts)
    return before, Passage(shown, first > 0, last < len(spaced)), after


def _spaced(texts: Sequence[str | None], joiner: str) -> Sequence[Any]:
    """Whole tokens as they read in a row."""
    return [f"{text}{joiner}" for text in texts] if joiner else texts


def _near_peak(row: "_Row", around: tuple[int, int]) -> tuple[int, int]:
    """The first token that is shown, and the one behind the last."""
    before, after = around
    middle = row.peak if row.peak >= 0 else before
    return max(0, middle - before), min(len(row.ids), middle + after + 1)


def whole(tokens: Tokens, ids: NDArray[np.integer], example: Example, maximum: float) -> Passage:
    """The full context; every token says what it is."""
    return _every(_Row.of(tokens, ids, example, maximum))


def read_values(
    tokens: Tokens, token_ids: Sequence[int] | NDArray[np.integer], values: Sequence[float], maximum: float
) -> Passage:
    """A text with a value for each of its tokens, 0 where the feature does not fire; every token says what it is.

    ``maximum`` is a full highlight: the feature's in its run. The peak is the first of the highest values above 0.
    """
    fired = {position: float(value) for position, value in enumerate(values) if value > 0}
    peak = max(fired, key=lambda position: (fired[position], -position), default=-1)
    return _every(_Row(tokens, [int(i) for i in token_ids], fired, peak, None, maximum))


@dataclass(frozen=True, slots=True)
class _Row:
    """A context and what a feature does in it. ``near``: the pre-activation at the peak, if it does not fire there."""

    tokens: Tokens
    ids: list[int]
    values: Mapping[int, float]
    peak: int
    near: float | None
    maximum: float

    @classmethod
    def of(cls, tokens: Tokens, ids: NDArray[np.integer], example: Example, maximum: float) -> "_Row":
        peak = example.peak
        if not example.fires:
            near = example.max_value if peak >= 0 else None
            return cls(tokens, ids.tolist(), {}, peak, near, maximum)
        fired = dict(zip(example.positions.tolist(), example.values.tolist(), strict=True))
        return cls(tokens, ids.tolist(), fired, peak, None, maximum)

    def marked(self, first: int, last: int) -> list[int]:
        """The tokens from ``first`` to before ``last`` that fire, the peak, and special ones."""
        found = {position for position in (*self.values, self.peak) if first <= position < last}
        special = self.tokens.special
        if not special.isdisjoint(self.ids[first:last]):
            found.update(position for position in range(first, last) if self.ids[position] in special)
        return sorted(found)

    def piece(self, span: "_Span") -> Piece:
        inside = range(span.start, span.stop)
        lead = " " if span.text.startswith(" ") and not span.text.isspace() else ""
        value = max((self.values.get(position, 0.0) for position in inside), default=0.0)
        peak = self.peak in inside
        said = f"pre-activation {signif(self.near)}" if peak and self.near is not None else signif(value)
        return Piece(
            text=span.text[len(lead) :],
            lead=lead,
            level=level(value, self.maximum),
            tip=_tip(self.tokens, self.ids[span.start : span.stop], span.start, said),
            peak=peak,
            special=not self.tokens.special.isdisjoint(self.ids[span.start : span.stop]),
        )


@dataclass(frozen=True, slots=True)
class _Span:
    """Tokens that make whole characters together: one, unless a character is split over several."""

    start: int
    stop: int
    text: str


def _spans(tokens: Tokens, ids: Sequence[int]) -> list[_Span]:
    spans, start = [], 0
    texts = tokens.running(ids)
    for position, text in enumerate(texts):
        if text or position == len(texts) - 1:
            spans.append(_Span(start, position + 1, text))
            start = position + 1
    return spans


def _every(row: _Row) -> Passage:
    return Passage([row.piece(span) for span in _spans(row.tokens, row.ids)], False, False)


def _between(row: _Row, texts: Sequence[str], first: int, last: int) -> Iterator[Piece]:
    """Marked tokens, and what stands between them as one piece; ``texts`` are those of ``first`` to before ``last``."""
    at = first
    for position in row.marked(first, last):
        if position > at:
            yield Piece("".join(texts[at - first : position - first]))
        yield row.piece(_Span(position, position + 1, texts[position - first]))
        at = position + 1
    if at < last:
        yield Piece("".join(texts[at - first :]))


def _merged(row: _Row, spans: Sequence[_Span]) -> Iterator[Piece]:
    """The same of spans of any number of tokens."""
    marked = set(row.marked(spans[0].start, spans[-1].stop))
    for plain, run in groupby(spans, lambda span: marked.isdisjoint(range(span.start, span.stop))):
        if plain:
            yield Piece("".join(span.text for span in run))
        else:
            yield from map(row.piece, run)


def level(value: float, maximum: float) -> int:
    """Which of the LEVELS steps of the highlight; anything that fires shows."""
    if not (value > 0 and maximum > 0):
        return 0
    return max(1, math.ceil(LEVELS * min(1.0, value / maximum)))


def alone(tokens: Tokens, ids: Sequence[int] | NDArray[np.integer]) -> str:
    """Tokens outside a text: what they say, or their bytes where those are not whole characters."""
    if len(ids) == 1 and (text := tokens.whole(int(ids[0]))) is not None:
        return text
    raw = b"".join(tokens.bytes_of(int(i)) for i in ids)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return f"⟨{raw.hex(' ').upper()}⟩"


def _tip(tokens: Tokens, ids: Sequence[int], start: int, value: str) -> str:
    name = f"“{token(alone(tokens, ids))}”"
    if len(ids) == 1:
        where = f"id {ids[0]} · position {start}"
    else:
        where = f"ids {', '.join(map(str, ids))} · positions {start}-{start + len(ids) - 1}"
    return f"{name} · {where} · {value}"


def passage_html(passage: Passage, *, breaks: bool = False, still: bool = False) -> SafeString:
    """A paragraph. ``breaks``: newlines break lines, and every token that has a tip says it, as in a full context.
    ``still``: for a table, where no token is pressed or focused.
    """
    return paragraph_html(passage, pieces_html(passage.pieces, breaks=breaks, still=still))


def paragraph_html(passage: Passage, inner: SafeString) -> SafeString:
    """The same around the HTML of its pieces."""
    before = '<span class="quiet">…</span>' if passage.cut_before else ""
    after = '<span class="quiet"> …</span>' if passage.cut_after else ""
    return SafeString(f'<p class="passage" dir="auto">{before}{inner}{after}</p>')


def pieces_html(pieces: Sequence[Piece], *, breaks: bool = False, still: bool = False) -> SafeString:
    """What stands in a passage's paragraph."""
    return SafeString("".join([_piece_html(piece, breaks, still) for piece in pieces]))


def _piece_html(piece: Piece, breaks: bool, still: bool) -> str:
    newline = "1" if breaks else ""
    if piece.level or piece.peak:
        kind = f"a{piece.level} peak" if piece.peak else f"a{piece.level}"
        tip = "" if still else f' data-tip="{escape(piece.tip)}" tabindex="{0 if piece.peak else -1}"'
        return f'{piece.lead}<mark class="{kind}"{tip}><bdi>{escape(token(piece.text, newline))}</bdi></mark>'
    if piece.tip and breaks:
        kind = ' class="special"' if piece.special else ""
        tip = f'data-tip="{escape(piece.tip)}" tabindex="-1"'
        return f"{piece.lead}<span{kind} {tip}>{escape(visible(piece.text, newline))}</span>"
    if piece.special:
        return f'{piece.lead}<span class="special">{escape(visible(piece.text))}</span>'
    return escape(visible(piece.lead + piece.text, newline))
