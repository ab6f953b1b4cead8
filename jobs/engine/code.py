"""Which code runs: its commit, without any of the libraries that the rest of the engine needs."""

import subprocess
from functools import cache
from pathlib import Path
from typing import Any


@cache
def code_version() -> dict[str, Any]:
    """``commit`` is empty, and ``dirty`` None, where the code does not run from a git checkout."""
    root = Path(__file__).resolve().parent
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": "", "dirty": None}


def _git(folder: Path, *args: str) -> str:
    return subprocess.run(
        ["git", *args], cwd=folder, check=True, capture_output=True, text=True, timeout=10
    ).stdout.strip()
