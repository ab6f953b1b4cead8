"""Many short columns at once, in the code of features.store.integers: a million blobs are packed in seconds."""

import numpy as np
from numpy.typing import NDArray


def pack_rows(values: NDArray[np.integer]) -> list[bytes]:
    """Of each row of ``values`` [N, n], non-negative and below 2**32, what ``pack_column`` makes in its plain code.

    ``pack_column`` itself takes the Rice code where that is shorter, so these are never shorter than its own.
    """
    n_rows, n = values.shape
    out = [b""] * n_rows
    if not n:
        return out
    widths = np.frexp(values.max(axis=1).astype(np.float64))[1]
    for width in np.unique(widths).tolist():
        rows = np.flatnonzero(widths == width)
        for at, packed in zip(rows.tolist(), _fixed(values[rows], width), strict=True):
            out[at] = packed
    return out


def _fixed(values: NDArray[np.integer], width: int) -> list[bytes]:
    n_rows, n = values.shape
    bits = np.unpackbits(values.astype(">u4").view(np.uint8).reshape(n_rows, n, 4), axis=2)[:, :, 32 - width :]
    packed = np.packbits(bits.reshape(n_rows, n * width), axis=1)
    return cut(np.hstack([np.full((n_rows, 1), width, np.uint8), packed]))


def cut(rows: NDArray[np.generic]) -> list[bytes]:
    """The bytes of each row of an array [N, ...]."""
    raw = rows.tobytes()
    size = len(raw) // len(rows) if len(rows) else 0
    return [raw[at : at + size] for at in range(0, len(raw), size)] if size else [b""] * len(rows)


def pack_ranked_rows(ids: NDArray[np.integer], values: NDArray[np.floating], n_lists: int) -> list[bytes]:
    """As ``pack_ranked`` packs ``n_lists`` lists of the same length: ``ids`` and ``values`` are [N, lists * length]."""
    head = bytes([n_lists, *[ids.shape[1] // n_lists] * n_lists])
    return [head + a + b for a, b in zip(pack_rows(ids), cut(values.astype("<f4")), strict=True)]


def pack_histogram_rows(top: NDArray[np.integer], counts: NDArray[np.integer]) -> list[bytes]:
    """As ``pack_histogram`` packs them: ``counts`` [N, B] from the lowest bin to bin ``top`` [N], which is not empty.

    b"" where all are empty.
    """
    lead = (counts > 0).argmax(axis=1)
    size = np.where(counts.any(axis=1), counts.shape[1] - lead, 0)
    out = [b""] * len(counts)
    for n in np.unique(size[size > 0]).tolist():
        rows = np.flatnonzero(size == n)
        first = cut((top[rows] - n + 1).astype("<i2"))
        for at, low, column in zip(rows.tolist(), first, pack_rows(counts[rows, -n:]), strict=True):
            out[at] = low + bytes([n]) + column
    return out
