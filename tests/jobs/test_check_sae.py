"""The check_sae command: what it prints, and its exit codes."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from tests.engine import tiny
from tests.engine.saes.cases import case

pytestmark = pytest.mark.django_db


def check(sae: Path, **options: Any) -> tuple[int, str, dict[str, Any]]:
    """Exit status, what was printed, and its last line's JSON."""
    out, status = io.StringIO(), 0
    try:
        call_command("check_sae", str(sae), json=True, stdout=out, stderr=io.StringIO(), **options)
    except SystemExit as end:
        status = int(str(end.code))
    *text, last = out.getvalue().splitlines()
    return status, "\n".join(text), json.loads(last)


def on_tiny(folder: Path, sae: Path, **options: Any) -> tuple[int, str, dict[str, Any]]:
    return check(sae, model=str(folder / "model"), corpus=str(folder / "corpus.jsonl"), context=32, **options)


def test_prints_the_card_and_the_figures(tiny_folder: Path) -> None:
    status, text, facts = on_tiny(tiny_folder, tiny_folder / "sae", tokens=1000)
    assert status == 1
    assert not facts["valid"]
    assert "NOT VALID" in text
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert {"architecture topk", "layer 1", "k 6", "read at resid_post of layer 1"} <= set(lines)
    assert facts["card"]["digest"] in text
    assert f"EV {facts['quality']['explained_variance']:.4f}" in lines
    assert facts["reasons"]
    assert all(reason in text for reason in facts["reasons"])
    assert facts["cause"] in text
    assert set(facts["quality"]) >= {"n_tokens", "explained_variance", "l0"}


@pytest.mark.parametrize(
    ("sae", "fault"),
    [
        ("bad__pickle_executes_code_ae_pt", "ae.pt holds more than tensors"),
        ("bad__saelens_truncated_safetensors", "not a whole safetensors file"),
        ("goodfire__standard", "Layer 19 does not exist"),
        ("saelens_v6__jumprelu_transcoder", "Layer 4 does not exist"),
        ("saelens_v6__abstopk", None),
    ],
)
def test_refuses_by_a_sentence(tiny_folder: Path, sae: str, fault: str | None) -> None:
    if fault is None:  # its width is the tiny model's, so it is read, and does not fit
        status, _, facts = on_tiny(tiny_folder, case(sae)[1], layer=1, tokens=300)
        assert (status, facts["card"]["architecture"]) == (1, "abstopk")
        return
    with pytest.raises(CommandError, match=fault):
        on_tiny(tiny_folder, case(sae)[1])


def test_refuses_another_width(tiny_folder: Path, tmp_path: Path) -> None:
    wide = tiny.write_sae(tmp_path / "wide", d_in=40)
    with pytest.raises(CommandError, match=r"reads vectors of width 40 \(d_in\), but model has width 24"):
        on_tiny(tiny_folder, wide)
    with pytest.raises(CommandError, match="--tokens must be at least 1"):
        on_tiny(tiny_folder, wide, tokens=0)
