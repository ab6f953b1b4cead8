"""What a process keeps of the database in memory, because reading it anew for every page would cost more than the page.

A key has to change with what it names: nothing is taken out but for want of room.
"""

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by key, those that were used last, of ``limit`` bytes together. Threads may share it."""

    def __init__(self, limit: int) -> None:
        self.limit, self.size = limit, 0
        self._values: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._lock = Lock()

    def find(self, key: Hashable) -> T | None:
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def keep(self, key: Hashable, value: T, size: int) -> T:
        """``value``, kept under ``key`` and counted as ``size`` bytes; the newest is kept whatever its size."""
        with self._lock:
            _, before = self._values.pop(key, (None, 0))
            self._values[key] = value, size
            self.size += size - before
            while len(self._values) > 1 and self.size > self.limit:
                _, (_, gone) = self._values.popitem(last=False)
                self.size -= gone
        return value
