"""Where a result comes from: the code, the packages and the machine that made it."""

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from jobs.engine.code import code_version

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "interp-engine", "gguf", "django", "celery")


def provenance(device: str) -> dict[str, Any]:
    """Code commit and whether the checkout had changes, package versions, device and platform."""
    return code_version() | {
        "packages": package_versions(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device_name(device),
        "threads": torch.get_num_threads(),
    }


def package_versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def device_name(device: str) -> str:
    """``cuda:0`` becomes the name of that GPU; a CPU goes by its architecture."""
    if device.startswith("cuda"):
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} ({platform.machine()})"
