"""The tokens that everything is made of: the demo's tokenizer's where its run is there, else made-up words."""

import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

SIZE = 49_152
N_SPECIAL = 17
PUNCTUATION = [b",", b".", b"\n", b" (", b")", b":", b";", b"?", b' "', b"\n\n"]
SYLLABLES = ["ba", "co", "den", "fi", "gra", "hul", "ma", "ne", "or", "pi", "qua", "re", "sto", "ti", "ul", "ven"]


@dataclass(frozen=True)
class Vocabulary:
    """``words``: ids of tokens that are a space and a word, the commonest first; ``stops``: those of PUNCTUATION."""

    tokens: list[bytes]
    words: NDArray[np.int64]
    stops: NDArray[np.int64]

    @classmethod
    def of(cls, tokens: list[bytes]) -> "Vocabulary":
        """In a vocabulary made by merging, ids ascend about as words grow rarer."""
        words = [i for i, token in enumerate(tokens) if re.fullmatch(rb" [A-Za-z][a-z]+", token)]
        ids = {token: i for i, token in enumerate(tokens)}
        stops = [ids[mark] for mark in PUNCTUATION if mark in ids]
        return cls(tokens, np.array(words, np.int64), np.array(stops, np.int64))

    def word(self, token_id: int) -> str:
        return self.tokens[token_id].decode().strip()


def vocabulary(demo: Path) -> Vocabulary:
    """Of the SQLite database at ``demo``, if there is one and it has a vocabulary of the usual size."""
    return Vocabulary.of(_of_demo(demo) or _made_up())


def _of_demo(path: Path) -> list[bytes]:
    if not path.exists():
        return []
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        try:
            raw, ends = database.execute("SELECT raw, ends FROM features_vocabulary").fetchone() or (b"", b"")
        except sqlite3.Error:
            return []
    stops = np.frombuffer(ends, "<u4").tolist()
    found = [raw[a:b] for a, b in zip([0, *stops], stops, strict=False)]
    return found if len(found) == SIZE else []


def _made_up() -> list[bytes]:
    """Special tokens, bytes, marks, then words: one to four syllables, shorter ones first."""
    tokens = [f"<{i}>".encode() for i in range(N_SPECIAL)] + [bytes([i]) for i in range(256)]
    tokens += [mark for mark in PUNCTUATION if len(mark) > 1]
    words, longer = [""], list[str]()
    while len(longer) < SIZE:
        words = [word + syllable for word in words for syllable in SYLLABLES]
        longer += words
    return tokens + [f" {word}".encode() for word in longer[: SIZE - len(tokens)]]
