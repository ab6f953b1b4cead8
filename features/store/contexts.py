"""Lists of ids in bytes: a context's tokens, and the features that cite it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def pack_ids(ids: NDArray[np.integer] | Sequence[int]) -> bytes:
    """Non-negative ids below 2**32, as little-endian uint32."""
    return np.asarray(ids).astype("<u4").tobytes()


def unpack_ids(blob: bytes) -> NDArray[np.uint32]:
    return np.frombuffer(blob, "<u4")
