"""A text with the words that were found marked: pieces of plain text, to be escaped where they are shown."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

AROUND = 90
"""Characters shown on either side of what was found."""


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    found: bool = False


def marked(text: str, spans: Sequence[tuple[int, int]]) -> list[Piece]:
    """``text`` cut at ``spans``, which ascend and do not overlap."""
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    pieces = [Piece(text[start:stop], found=i % 2 == 1) for i, (start, stop) in enumerate(pairwise(edges))]
    return [piece for piece in pieces if piece.text]


def snippet(text: str, spans: Sequence[tuple[int, int]], around: int = AROUND) -> list[Piece]:
    """The part of ``text`` around the first span, whole words if they are not too long; an ellipsis where it is cut."""
    first = spans[0] if spans else (0, 0)
    start, stop = max(0, first[0] - around), min(len(text), first[1] + around)
    if start and (space := text.find(" ", start, first[0])) >= 0:
        start = space + 1
    if stop < len(text) and (space := text.rfind(" ", first[1], stop)) >= 0:
        stop = space
    inside = [(max(a, start) - start, min(b, stop) - start) for a, b in spans if a < stop and b > start]
    pieces = marked(text[start:stop], inside)
    return [*([Piece("…")] if start else []), *pieces, *([Piece("…")] if stop < len(text) else [])]
