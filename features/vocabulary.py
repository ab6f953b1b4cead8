"""Tokens as people see them: from a model's Vocabulary row to strings, kept in memory."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from features.models import LanguageModel, Vocabulary
from features.store.contexts import unpack_ids


@dataclass(frozen=True)
class Tokens:
    """The tokens of one model. A byte-level token may be a part of a character."""

    raw: bytes
    ends: NDArray[np.uint32]
    special: frozenset[int]
    joiner: str
    _whole: dict[int, str | None] = field(default_factory=dict, repr=False, compare=False)

    def bytes_of(self, token_id: int) -> bytes:
        if not 0 <= token_id < len(self.ends):
            return b""  # padded rows of an embedding have no token
        start = int(self.ends[token_id - 1]) if token_id else 0
        return self.raw[start : int(self.ends[token_id])]

    def text_of(self, token_id: int) -> str:
        """The token on its own; bytes that are not a whole character show as U+FFFD."""
        return self.bytes_of(token_id).decode("utf-8", "replace")

    def whole(self, token_id: int) -> str | None:
        """The token on its own if it is whole characters, else None. Remembered: a page asks for the same few often."""
        try:
            return self._whole[token_id]
        except KeyError:
            pass
        try:
            text = self.bytes_of(token_id).decode()
        except UnicodeDecodeError:
            text = None
        self._whole[token_id] = text
        return text

    def texts(self, token_ids: Sequence[int] | NDArray[np.integer]) -> list[str]:
        return [self.text_of(int(i)) for i in token_ids]

    def running(self, token_ids: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """The tokens as they read in a row: a character that is split over tokens stands at the one that ends it.

        Their concatenation is the text.
        """
        texts = [self.whole(int(i)) for i in token_ids]
        if None not in texts:
            return [f"{text}{self.joiner}" for text in texts]
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pieces = [decoder.decode(self.bytes_of(int(i))) + self.joiner for i in token_ids]
        if pieces:
            pieces[-1] += decoder.decode(b"", final=True)
        return pieces


def tokens_of(model: LanguageModel) -> Tokens:
    """The tokens of ``model``, read once a process: a model's digest never changes, while a key may come again."""
    return _tokens(model.pk, model.tokenizer_digest)


@lru_cache(maxsize=8)
def _tokens(model_id: int, tokenizer_digest: str) -> Tokens:
    row = Vocabulary.objects.get(model_id=model_id)
    special = frozenset(int(i) for i in unpack_ids(bytes(row.special_ids)))
    return Tokens(bytes(row.raw), unpack_ids(bytes(row.ends)), special, row.joiner)
