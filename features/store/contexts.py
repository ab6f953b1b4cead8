"""A context in bytes: its tokens, and the features that cite it; and lists of ids as a vocabulary keeps them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from features.store.integers import Reader, number_at, pack_column


def pack_ids(ids: NDArray[np.integer] | Sequence[int]) -> bytes:
    """Non-negative ids below 2**32, as little-endian uint32."""
    return np.asarray(ids).astype("<u4").tobytes()


def unpack_ids(blob: bytes) -> NDArray[np.uint32]:
    return np.frombuffer(blob, "<u4")


def pack_tokens(ids: NDArray[np.integer] | Sequence[int]) -> bytes:
    """Token ids in their order: uint32 n, then a column."""
    return _counted(np.asarray(ids, np.int64))


def unpack_tokens(blob: bytes) -> NDArray[np.uint32]:
    return _read(blob).astype(np.uint32)


def token_at(blob: bytes, position: int) -> int:
    """One of the ids that ``unpack_tokens`` gives."""
    return number_at(blob, 4, int.from_bytes(blob[:4], "little"), position)


def pack_features(indexes: NDArray[np.integer] | Sequence[int]) -> bytes:
    """A set of feature indexes: uint32 n, then the steps from each to the next higher as a column."""
    steps = np.unique(np.asarray(indexes, np.int64))
    steps[1:] -= steps[:-1].copy()
    return _counted(steps)


def unpack_features(blob: bytes) -> NDArray[np.int64]:
    """The set, ascending."""
    return np.cumsum(_read(blob))


def _counted(numbers: NDArray[np.int64]) -> bytes:
    return np.array([len(numbers)], "<u4").tobytes() + pack_column(numbers)


def _read(blob: bytes) -> NDArray[np.int64]:
    reader = Reader(blob)
    return reader.column(reader.number("<u4"))
