"""Tokens as people see them: from a model's Vocabulary row to strings, kept in memory."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from features.models import Vocabulary
from features.store.contexts import unpack_ids


@dataclass(frozen=True)
class Tokens:
    """The tokens of one model. A byte-level token may be a part of a character."""

    raw: bytes
    ends: NDArray[np.uint32]
    special: frozenset[int]
    joiner: str

    def bytes_of(self, token_id: int) -> bytes:
        if not 0 <= token_id < len(self.ends):
            return b""  # padded rows of an embedding have no token
        start = int(self.ends[token_id - 1]) if token_id else 0
        return self.raw[start : int(self.ends[token_id])]

    def text_of(self, token_id: int) -> str:
        """The token on its own; bytes that are not a whole character show as U+FFFD."""
        return self.bytes_of(token_id).decode("utf-8", "replace")

    def texts(self, token_ids: Sequence[int] | NDArray[np.integer]) -> list[str]:
        return [self.text_of(int(i)) for i in token_ids]

    def running(self, token_ids: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """The tokens as they read in a row: a character that is split over tokens stands at the one that ends it.

        Their concatenation is the text.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        pieces = [decoder.decode(self.bytes_of(int(i))) + self.joiner for i in token_ids]
        if pieces:
            pieces[-1] += decoder.decode(b"", final=True)
        return pieces


@lru_cache(maxsize=8)
def tokens_of(model_id: int) -> Tokens:
    """The tokens of the LanguageModel with this primary key. The row never changes, so it is read once a process."""
    row = Vocabulary.objects.get(model_id=model_id)
    special = frozenset(int(i) for i in unpack_ids(bytes(row.special_ids)))
    return Tokens(bytes(row.raw), unpack_ids(bytes(row.ends)), special, row.joiner)
