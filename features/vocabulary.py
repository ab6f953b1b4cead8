"""Tokens as people see them: from a model's Vocabulary row to strings, kept in memory."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from features.models import LanguageModel, Vocabulary
from features.store.contexts import unpack_ids

Bytes = bytes | memoryview
"""As databases give them."""


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

    def wholes(self, token_ids: Sequence[int]) -> list[str | None]:
        """What ``whole`` says of each."""
        known = [*map(self._whole.get, token_ids)]
        if None in known:  # not looked at yet, or no whole character
            return [self.whole(i) for i in token_ids]
        return known

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

    def decode(self, rows: Sequence[NDArray[np.integer]]) -> list[str]:
        """The text of each row of token ids: what ``running`` gives, joined, with U+FFFD for U+0000. Rows that are
        decoded together take a tenth of the time.
        """
        if self.joiner:
            return ["".join(self.running(ids)).replace("\0", "\ufffd") for ids in rows]
        ids = np.concatenate([np.empty(0, np.int64), *rows]).astype(np.int64)
        starts, sizes = self._places
        ids[(ids < 0) | (ids >= len(self.ends))] = len(self.ends)
        lengths = sizes[ids]
        stops = np.concatenate([[0], np.cumsum(lengths)])
        within = np.arange(stops[-1]) + np.repeat(starts[ids] - stops[:-1], lengths)
        whole = np.frombuffer(self.raw, np.uint8)[within].tobytes()
        cuts = stops[np.cumsum([0, *(len(row) for row in rows)])].tolist()
        return [whole[a:b].decode("utf-8", "replace").replace("\0", "\ufffd") for a, b in pairwise(cuts)]

    @cached_property
    def _places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where each token begins in ``raw`` and how long it is, and one more, of no bytes."""
        edges = np.concatenate([[0], self.ends.astype(np.int64)])
        return edges, np.append(np.diff(edges), 0)


def tokens_of(model: LanguageModel) -> Tokens:
    """The tokens of ``model``, read once a process: a model's digest never changes, while a key may come again."""
    return _tokens(model.pk, model.tokenizer_digest)


@lru_cache(maxsize=8)
def _tokens(model_id: int, tokenizer_digest: str) -> Tokens:
    row = Vocabulary.objects.get(model_id=model_id)
    return tokens_from(row.raw, row.ends, row.special_ids, row.joiner)


def tokens_from(raw: Bytes, ends: Bytes, special_ids: Bytes, joiner: str) -> Tokens:
    """Of the columns of a Vocabulary row."""
    special = frozenset(int(i) for i in unpack_ids(bytes(special_ids)))
    return Tokens(bytes(raw), unpack_ids(bytes(ends)), special, joiner)
