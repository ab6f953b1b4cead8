"""Memory that is free, back to the system."""

import ctypes
import sys

LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def trim() -> None:
    """Hand back what the C library keeps for later, where it can be asked to (glibc's malloc_trim).

    A pass frees large tables in pieces; without this they add up to the peak of whatever comes next.
    """
    release = getattr(LIBC, "malloc_trim", None)
    if release is not None:
        release(0)
