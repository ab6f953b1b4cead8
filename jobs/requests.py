"""What an extraction job is asked to do: the frozen settings of its row."""

from dataclasses import asdict, dataclass
from typing import Any

MAX_PLACE = 500  # as the rows of models, SAEs and corpora have it


@dataclass(frozen=True)
class ExtractionRequest:
    """``model``, ``sae`` and ``corpus`` are slugs of what is registered, or places that the worker can read.

    ``tokens``: read at most about so many (None: all). ``context``: tokens per window. ``top``: examples kept per
    feature. ``skip_first``: positions at the start of each window that are left out of statistics. ``layer``, ``hook``
    and ``k`` say what the SAE's files do not. ``device``: auto, cpu, cuda, cuda:1 ...
    """

    model: str
    sae: str
    corpus: str
    tokens: int | None = None
    context: int = 128
    top: int = 24
    seed: int = 0
    skip_first: int = 0
    layer: int | None = None
    hook: str | None = None
    k: int | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("model", "sae", "corpus"):
            if len(getattr(self, name)) > MAX_PLACE:
                raise ValueError(f"The {name} is a path of more than {MAX_PLACE} characters; move it, or link to it.")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
