"""What the machine says of a process and of itself, read from Linux's /proc; None where there is none."""

import os
import platform
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def children_of(pid: int) -> set[int]:
    """The processes that ``pid`` started and that still run."""
    found: set[int] = set()
    for listed in (PROC / str(pid) / "task").glob("*/children"):
        with suppress(OSError):
            found |= {int(word) for word in listed.read_text().split()}
    return found


def memory_of(pid: int) -> int | None:
    """Bytes that ``pid`` and all below it hold. What several of them share counts once."""
    known = [size for one in _family(pid) if (size := _held(one)) is not None]
    return sum(known) if known else None


def memory_total() -> int | None:
    """Bytes that processes here may hold: of the machine, or fewer where a container is limited."""
    limits = [size for size in (_machine("MemTotal"), *map(_number, CGROUP_LIMITS)) if size]
    return min(limits) if limits else None


def memory_free() -> int | None:
    """Bytes that could be had without swapping, by what the whole machine says."""
    return _machine("MemAvailable")


def runs(pid: int) -> bool:
    """Whether there is such a process on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


def likely_device() -> str:
    """What a worker would compute on, before torch is asked: empty where there seems to be a GPU."""
    return "" if (PROC / "driver/nvidia/version").exists() else f"cpu ({platform.machine()})"


def _family(pid: int) -> Iterator[int]:
    yield pid
    for child in children_of(pid):
        yield from _family(child)


def _held(pid: int) -> int | None:
    """Its proportional share, which the kernel tells only to who may trace it; else what is resident."""
    for name, field in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        with suppress(OSError):
            if (size := _field(PROC / str(pid) / name, field)) is not None:
                return size
    return None


def _machine(field: str) -> int | None:
    with suppress(OSError):
        return _field(PROC / "meminfo", f"{field}:")
    return None


def _field(path: Path, field: str) -> int | None:
    """Bytes, of a line such as ``MemTotal: 16 kB``."""
    for line in path.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    return None


def _number(path: Path) -> int | None:
    """None where there is no such file, or no limit in it."""
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None
