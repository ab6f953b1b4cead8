from pathlib import Path
from typing import Any

from jobs.requests import ExtractionRequest


def tiny_request(folder: Path, **changes: Any) -> ExtractionRequest:
    """A request for the tiny model, SAE and corpus in ``folder``."""
    places = {"model": str(folder / "model"), "sae": str(folder / "sae"), "corpus": str(folder / "corpus.jsonl")}
    return ExtractionRequest(**(places | {"context": 32, "top": 10} | changes))
