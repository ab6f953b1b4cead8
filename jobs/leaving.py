"""How the processes of a worker learn that it has been asked to end, so that they let go of what they are at."""

import mmap

# One byte that a worker's parent and the children it forks see together.
_asked = mmap.mmap(-1, 1)


def ask() -> None:
    _asked[0] = 1


def asked() -> bool:
    return bool(_asked[0])
