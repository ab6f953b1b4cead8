"""A context in bytes: its tokens, and the features that cite it; and lists of ids as a vocabulary keeps them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.store.integers import Reader, number_at, pack_column, unpack_columns


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


def unpack_many_tokens(blobs: Sequence[bytes]) -> list[NDArray[np.uint32]]:
    """``unpack_tokens`` of each, at a quarter of the cost."""
    flat, ends = _read_many(blobs)
    return _parted(flat.astype(np.uint32), ends)


def unpack_flat_tokens(blobs: Sequence[bytes]) -> tuple[NDArray[np.int64], list[int]]:
    """The ids of all, one after the other, and where those of each end."""
    flat, ends = _read_many(blobs)
    return flat, ends.tolist()


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


def unpack_many_features(blobs: Sequence[bytes]) -> list[NDArray[np.int64]]:
    """``unpack_features`` of each."""
    steps, ends = _read_many(blobs)
    sums = np.concatenate([[0], np.cumsum(steps)])
    starts = np.concatenate([[0], ends[:-1]])[: len(ends)]
    return _parted(sums[1:] - np.repeat(sums[starts], ends - starts), ends)


def _read_many(blobs: Sequence[bytes]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers of all, and where those of each end."""
    counts = np.array([int.from_bytes(blob[:4], "little") for blob in blobs], np.int64)
    return unpack_columns(blobs, 4, counts), np.cumsum(counts)


def _parted(flat: NDArray[Any], ends: NDArray[np.int64]) -> list[NDArray[Any]]:
    return [flat[start:end] for start, end in zip([0, *ends.tolist()], ends.tolist(), strict=False)]


def _counted(numbers: NDArray[np.int64]) -> bytes:
    return np.array([len(numbers)], "<u4").tobytes() + pack_column(numbers)


def _read(blob: bytes) -> NDArray[np.int64]:
    reader = Reader(blob)
    return reader.column(reader.number("<u4"))
