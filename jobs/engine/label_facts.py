"""What is so at many positions at once: the word there, its kind and the words beside it, as numbers.

A fact is a kind and a text to compare, without case. "word" is the whole word, "token" the token alone, "form" the word
without its suffix, "class" a kind of token; "after" is what comes just before, "before" what comes just after, and
"logits" the id that follows.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jobs.engine.label_words import RUN, SUFFIX, TOKEN_CHARS, bare, classes, first_run, is_word, last_run

REACH = 6  # tokens on each side among which the rest of a word is looked for
_CACHED = 65_536  # tokens with the other parts of their words
NONE = -1  # in place of a fact, a spelling, or a token beyond the context


class Facts(NamedTuple):
    """The facts of n positions: by kind, which fact and in which spelling, int64 [n] each, NONE where there is none.

    The number of a "logits" fact is the id itself. A position has several classes, best first: ``kinds`` [n] says
    which tuple of ``classes`` it has.
    """

    number: dict[str, NDArray[np.int64]]
    spelling: dict[str, NDArray[np.int64]]
    kinds: NDArray[np.int64]
    classes: list[tuple[int, ...]]

    def classes_of(self, rows: slice) -> list[tuple[int, ...]]:
        return [self.classes[i] for i in self.kinds[rows].tolist()]


class _Side(NamedTuple):
    """What stands on one side of a token: the word that ends or begins there, "" for none, whether that touches the
    token, and, where there is no word, the token there."""

    word: str
    touches: bool
    token: str


class FactFinder:
    """Finds facts and numbers them as they come. ``names`` are the facts' texts, ``spellings`` those as written."""

    def __init__(self, token_text: Sequence[str]) -> None:
        self._text = [*(text[:TOKEN_CHARS] for text in token_text), ""]  # the last for ids without a text
        self._breaks = self._where(lambda text: not RUN.fullmatch(text))
        self._breaks_after_space = self._where(lambda text: not RUN.fullmatch(text.removeprefix(" ")))
        self._begins = self._where(lambda text: is_word(text[:1]))
        self._ends = self._where(lambda text: is_word(text[-1:]))
        self._blank = self._where(lambda text: not text)
        self._at = functools.lru_cache(maxsize=_CACHED)(self._find_at)
        self._numbers: dict[tuple[str, str], int] = {}
        self._spelled: dict[tuple[int, str], int] = {}
        self.names: list[str] = []
        self.spellings: list[str] = []

    def texts(self, token_ids: Iterable[int]) -> list[str]:
        text, size = self._text, len(self._text) - 1
        return [text[i] if 0 <= i < size else "" for i in token_ids]

    def number(self, kind: str, name: str) -> int:
        """The number of a fact, a new one where it is new."""
        if (number := self._numbers.setdefault((kind, name), len(self.names))) == len(self.names):
            self.names.append(name)
        return number

    def find(self, windows: NDArray[np.int32]) -> Facts:
        """The facts of positions, each in the middle of a window of ids [n, 2 * REACH + 1]."""
        size = len(self._text) - 1
        ids = np.where((windows >= 0) & (windows < size), windows, size).astype(np.int64)
        here, (left, of_left), (right, of_right) = (
            ids[:, REACH], self._left(ids[:, REACH - 1 :: -1]), self._right(ids[:, REACH + 1 :])
        )  # fmt: skip
        joins_left = self._begins[here] & np.array([side.touches for side in left], bool)[of_left]
        joins_right = self._ends[here] & np.array([side.touches for side in right], bool)[of_right]
        before = np.where(joins_left, np.array([side.word for side in left], object)[of_left], "")
        after = np.where(joins_right, np.array([side.word for side in right], object)[of_right], "")
        found: dict[tuple[int, str, str], int] = {}
        keys = zip(here.tolist(), before.tolist(), after.tolist(), strict=True)
        kinds = np.array([found.setdefault(key, len(found)) for key in keys], np.int64)
        spelled = [self._at(*key) for key in found]
        spelling = {
            kind: np.array([one[n] for one in spelled], np.int64)[kinds]
            for n, kind in enumerate(("word", "token", "form"))
        }
        spelling["after"] = self._beside("after", "{}…", left, of_left, joins_left)
        spelling["before"] = self._beside("before", "…{}", right, of_right, joins_right)
        numbers = np.array([*(number for number, _ in self._spelled), NONE])
        number = {kind: numbers[column] for kind, column in spelling.items()}
        number["logits"] = windows[:, REACH + 1].astype(np.int64)
        return Facts(number, spelling, kinds, [one[3] for one in spelled])

    def _where(self, test: Callable[[str], bool]) -> NDArray[np.bool_]:
        return np.array([test(text) for text in self._text])

    def _left(self, ids: NDArray[np.int64]) -> tuple[list[_Side], NDArray[np.int64]]:
        """``ids`` [n, REACH], the nearest first. Only what tells the word is looked at, so that much is alike: the
        nearest token, and all up to the nearest with a character of no word, if that ends in a word."""
        goes_on = ~self._breaks[ids]
        told = _all_before(goes_on) & (goes_on | self._ends[ids])
        told[:, 0] = True
        rows, place = self._distinct(ids, told)
        words = [last_run("".join(texts[::-1])) for texts in rows]
        return [_Side(word, bool(word), bare(texts[0])) for word, texts in zip(words, rows, strict=True)], place

    def _right(self, ids: NDArray[np.int64]) -> tuple[list[_Side], NDArray[np.int64]]:
        """``ids`` [n, REACH], the nearest first. The word may follow a space."""
        first = _all_before(self._blank[ids])
        goes_on = ~np.where(first, self._breaks_after_space[ids], self._breaks[ids])
        told = _all_before(goes_on) & (goes_on | self._begins[ids] | first)
        rows, place = self._distinct(ids, told)
        words = [first_run("".join(texts).removeprefix(" ")) for texts in rows]
        touch = [is_word("".join(texts)[:1]) for texts in rows]
        columns = zip(words, touch, rows, strict=True)
        return [_Side(word, bool(word) and near, bare(texts[0])) for word, near, texts in columns], place

    def _distinct(self, ids: NDArray[np.int64], told: NDArray[np.bool_]) -> tuple[list[list[str]], NDArray[np.int64]]:
        """The texts of each distinct row of ``ids``, but for those not ``told``, and which of them each row has."""
        rows = np.where(told, ids, len(self._text) - 1)
        places: dict[bytes, int] = {}
        keys = rows.view(f"V{rows.itemsize * REACH}").ravel().tolist()
        place = np.array([places.setdefault(key, len(places)) for key in keys], np.int64)
        distinct = np.frombuffer(b"".join(places), rows.dtype).reshape(-1, REACH).tolist()
        return [[self._text[i] for i in row] for row in distinct], place

    def _beside(
        self, kind: str, pattern: str, sides: list[_Side], place: NDArray[np.int64], joins: NDArray[np.bool_]
    ) -> NDArray[np.int64]:
        """Spellings of what stands on one side; ``pattern`` is for a word that goes on in the token."""
        found, back = np.unique(2 * place + joins, return_inverse=True)
        pairs = [(sides[i // 2], i % 2) for i in found.tolist()]
        texts = [pattern.format(side.word) if joined else side.word or side.token for side, joined in pairs]
        return np.array([self._spell(kind, text) for text in texts], np.int64)[back]

    def _find_at(self, token_id: int, before: str, after: str) -> tuple[int, int, int, tuple[int, ...]]:
        """Spellings of word, token and form, and the classes, of a token between the other parts of its word."""
        text = self._text[token_id]
        core = bare(text)
        word = (before + core + after if core else "")[:TOKEN_CHARS]
        token = "…" * bool(before) + core + "…" * bool(after) if core else ""
        form = SUFFIX.sub("", word.casefold()) if word.isalpha() else ""
        kinds = tuple(self.number("class", kind) for kind in classes(word, text, bool(before), bool(after)))
        return self._spell("word", word), self._spell("token", token, core), self._spell("form", word, form), kinds

    def _spell(self, kind: str, written: str, name: str | None = None) -> int:
        """The number of a fact as written, ``name`` being the text to compare; NONE for no text."""
        name = written if name is None else name
        if not name:
            return NONE
        key = self.number(kind, name.casefold()), written
        if (spelling := self._spelled.setdefault(key, len(self.spellings))) == len(self.spellings):
            self.spellings.append(written)
        return spelling


def _all_before(row: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether all entries of a row before each are true."""
    before = np.ones_like(row)
    before[:, 1:] = np.logical_and.accumulate(row, axis=1)[:, :-1]
    return before
