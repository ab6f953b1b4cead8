"""A map in bytes: where each feature lies, and in which cluster. Little-endian, in the order of the features."""

import numpy as np
from numpy.typing import NDArray

NO_CLUSTER = -1
_STEPS = 65_535


def pack_points(xy: NDArray[np.floating]) -> bytes:
    """[n, 2] as float32."""
    return np.ascontiguousarray(xy, "<f4").tobytes()


def unpack_points(blob: bytes) -> NDArray[np.float32]:
    """float32 [n, 2]."""
    return np.frombuffer(blob, "<f4").reshape(-1, 2)


def pack_clusters(cluster: NDArray[np.integer]) -> bytes:
    """[n] as int16; NO_CLUSTER for features of none."""
    return np.ascontiguousarray(cluster, "<i2").tobytes()


def unpack_clusters(blob: bytes) -> NDArray[np.int16]:
    """int16 [n]."""
    return np.frombuffer(blob, "<i2")


def quantised(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint16]:
    """``values`` as steps of 65,535 from ``low`` to ``high``; what lies beyond counts as the end that it is beyond."""
    share = (np.asarray(values, np.float64) - low) / ((high - low) or 1.0)
    return np.round(np.clip(share, 0, 1) * _STEPS).astype("<u2")
