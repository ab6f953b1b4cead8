"""The peak memory of this process between two moments."""

from pathlib import Path

import torch

MIB = 1 << 20


def reset(device: str) -> None:
    """Forget the peak so far. On systems without /proc the process's peak cannot be reset, and is not told."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(device)
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5")


def peak_mb(device: str) -> float | None:
    """MiB at the peak since ``reset``: of the GPU's memory where ``device`` is one, else resident memory."""
    if device.startswith("cuda"):
        return float(torch.cuda.max_memory_allocated(device) / MIB)
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / MIB
