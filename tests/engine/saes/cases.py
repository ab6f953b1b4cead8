"""The checkpoints in tests/fixtures/saes: written by the libraries themselves, with inputs and what they gave."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

FIXTURES = Path(__file__).parents[2] / "fixtures" / "saes"
GOOD = sorted(p.name for p in FIXTURES.iterdir() if not p.name.startswith("bad__"))
BAD = sorted(p.name for p in FIXTURES.glob("bad__*"))


def case(name: str) -> tuple[dict[str, Any], Path]:
    """case.json, and the path of the checkpoint."""
    facts = json.loads((FIXTURES / name / "case.json").read_text())
    return facts, FIXTURES / name / facts["load_path"]


def expected(name: str) -> dict[str, torch.Tensor]:
    return load_file(FIXTURES / name / "expected.safetensors")
