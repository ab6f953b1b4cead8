"""Texts as vectors: wordllama's 256 numbers for each, from files that come with its package; no torch, no network."""

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDTH = 256
_SIGNS = re.compile(r"[\W_]+")


def embed(texts: Sequence[str]) -> NDArray[np.int8]:
    """int8 [n, WIDTH]: each vector as 127 times its direction over its largest part; zeros for a text of nothing.

    The first call of a process reads the model, about a third of a second.
    """
    if not texts:
        return np.empty((0, WIDTH), np.int8)
    with np.errstate(invalid="ignore", divide="ignore"):
        vectors = np.asarray(_model().embed([_plain(text) for text in texts]), np.float32)
        scaled = vectors * (127 / np.abs(vectors).max(axis=1, keepdims=True))
    whole: NDArray[np.int8] = np.nan_to_num(np.rint(scaled), nan=0.0).astype(np.int8)
    return whole


def pack_codes(vectors: NDArray[np.int8]) -> list[bytes]:
    """``sign_codes`` of each; b"" for zeros."""
    return [code.tobytes() if one.any() else b"" for code, one in zip(sign_codes(vectors), vectors, strict=True)]


def sign_codes(vectors: NDArray[np.int8]) -> NDArray[np.uint8]:
    """uint8 [n, WIDTH // 8] of int8 [n, WIDTH]: one bit a number, set where it is above 0."""
    return np.packbits(vectors > 0, axis=1)


def cosines(vector: NDArray[np.int8], others: NDArray[np.int8]) -> NDArray[np.float32]:
    """float32 [n] of ``others`` [n, WIDTH], 0 for zeros."""
    one, many = vector.astype(np.float32), others.astype(np.float32)
    found: NDArray[np.float32] = many @ one / np.maximum(np.linalg.norm(many, axis=1) * np.linalg.norm(one), 1)
    return found


def _plain(text: str) -> str:
    """Words alone: the quotes and strokes of a rule's label mean nothing."""
    return " ".join(_SIGNS.sub(" ", text).split()) or text


@cache
def _model() -> Any:
    import wordllama  # type: ignore[import-untyped]  # here, not above: a web process reads it when somebody first searches by meaning

    return wordllama.WordLlama.load(cache_dir=Path(wordllama.__file__).parent, disable_download=True)
