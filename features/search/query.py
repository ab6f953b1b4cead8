"""What somebody asked for, read once: which words, in which order, and where a text holds them."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from features.search.words import LONGEST, pattern, places, split

MAX_QUERY = 200
LEAST_PREFIX = 3
"""An unfinished word of fewer letters would begin too many words: it is taken for a whole one."""
LEAST_PIECE = 3
"""Letters of a term that is looked for within words, too."""

_TERM = re.compile(r'"([^"]*)"?|(\S+)')


class QueryError(ValueError):
    """What cannot be searched for. The message is one sentence for the person who asked."""


@dataclass(frozen=True)
class Query:
    """``phrases``: words that have to follow one another, one tuple for each term; a text has to hold all of them.

    ``literals`` are terms without a letter or digit, which a text has to hold as they are. ``unfinished``: the very
    last word stands for all that begin with it.
    """

    text: str
    phrases: tuple[tuple[str, ...], ...]
    literals: tuple[str, ...] = ()
    unfinished: bool = False
    words: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "words", tuple(word for phrase in self.phrases for word in phrase))

    @classmethod
    def parse(cls, text: str) -> "Query":
        """Terms are parted by spaces; quotes hold several words together. There are no operators: all else is text.

        Raises QueryError for what is too long or holds the character NUL.
        """
        text = text.strip()
        if len(text) > MAX_QUERY:
            raise QueryError(f"A search is at most {MAX_QUERY} characters long; this one has {len(text):,}.")
        if "\0" in text:
            raise QueryError("A search cannot hold the character NUL.")
        terms = [(m.group(1) is not None, m.group(1) or m.group(2) or "") for m in _TERM.finditer(text)]
        cut = [(quoted, term, tuple(split(term))) for quoted, term in terms if term]
        phrases = tuple(words for _, _, words in cut if words)
        last = cut[-1] if cut else (True, "", ())
        unfinished = not last[0] and bool(last[2]) and last[1][-1].isalnum() and len(last[2][-1]) >= LEAST_PREFIX
        return cls(text, phrases, tuple(term.casefold() for _, term, words in cut if not words), unfinished)

    def __bool__(self) -> bool:
        return bool(self.phrases or self.literals)

    @property
    def needs_text(self) -> bool:
        """Whether it takes more than knowing which words a text holds."""
        long = any(len(word) > LONGEST for word in self.words)
        return bool(self.literals) or long or any(len(phrase) > 1 for phrase in self.phrases)

    def index_keys(self) -> list[tuple[str, bool]]:
        """The words as an index holds them, each once; whether it stands for all that begin with it."""
        last = len(self.words) - 1
        found = {(w[:LONGEST], self.unfinished and i == last and len(w) <= LONGEST) for i, w in enumerate(self.words)}
        return sorted(found)

    @cached_property
    def _patterns(self) -> list[re.Pattern[str]]:
        last = len(self.phrases) - 1
        return [pattern(phrase, unfinished=self.unfinished and i == last) for i, phrase in enumerate(self.phrases)]

    @cached_property
    def pieces(self) -> list[str]:
        """What a label may hold within its words, too; none where a term is too short for that."""
        joined = [" ".join(word[:LONGEST] for word in phrase) for phrase in self.phrases]
        return joined if all(len(piece) >= LEAST_PIECE for piece in joined) else []

    @cached_property
    def _inner(self) -> list[re.Pattern[str]]:
        return [pattern(phrase, inside=True) for phrase in self.phrases] if self.pieces else []

    def matches(self, text: str) -> bool:
        """Whether ``text`` holds all that was asked for."""
        return self._holds(text.casefold(), self._patterns)

    def _holds(self, low: str, patterns: Sequence[re.Pattern[str]]) -> bool:
        for wanted in patterns:
            if not wanted.search(low):
                return False
        return not self.literals or all(literal in low for literal in self.literals)

    def spans(self, text: str) -> list[tuple[int, int]]:
        """Where ``text`` holds what was asked for, ascending, without overlaps; none unless it holds all of it."""
        return self._spans(text, self._patterns) if self.matches(text) else []

    def label_matches(self, text: str) -> bool:
        """Whether a label holds all that was asked for: as words or, where ``pieces`` allow it, within words."""
        low = text.casefold()
        return self._holds(low, self._patterns) or (bool(self._inner) and self._holds(low, self._inner))

    def label_spans(self, text: str) -> list[tuple[int, int]]:
        return self.spans(text) or (self._spans(text, self._inner) if self.label_matches(text) else [])

    def _spans(self, text: str, patterns: Iterable[re.Pattern[str]]) -> list[tuple[int, int]]:
        low, at = text.casefold(), places(text)
        literal = [re.compile(re.escape(literal)) for literal in self.literals]
        found = [match.span() for wanted in [*patterns, *literal] for match in wanted.finditer(low)]
        return _merged([(at[start], at[stop]) for start, stop in found])


def _merged(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
