"""What an extraction job is asked to do: the frozen settings of its row."""

from dataclasses import asdict, dataclass
from typing import Any

MAX_PLACE = 500  # as the rows of models, SAEs and corpora have it

DTYPES = ("auto", "float32", "bfloat16", "float16")
MAX_SHARDS = 10_000


@dataclass(frozen=True)
class ExtractionRequest:
    """``model``, ``sae`` and ``corpus`` are slugs of what is registered, or places that the worker can read.

    ``tokens``: read at most about so many (None: all). ``context``: tokens per window. ``top``: examples kept per
    feature. ``skip_first``: positions at the start of each window that are left out of statistics. ``layer``, ``hook``,
    ``hook_out``, ``k`` and ``centred`` say what the SAE's files do not. ``device``: auto, cpu, cuda, cuda:1 ...
    ``dtype`` of the model: float32, bfloat16, float16, or auto, which is float32 on a CPU and bfloat16 on CUDA.
    ``shards``: into how many pieces the corpus is cut, or as many as its length suggests.
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
    centred: bool | None = None
    hook_out: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    shards: int | None = None

    def __post_init__(self) -> None:
        for name in ("model", "sae", "corpus"):
            if len(getattr(self, name)) > MAX_PLACE:
                raise ValueError(f"The {name} is a path of more than {MAX_PLACE} characters; move it, or link to it.")
        if self.dtype not in DTYPES:
            raise ValueError(f"The dtype {self.dtype[:50]} is not known: choose one of {', '.join(DTYPES)}.")
        if self.shards is not None and not 1 <= self.shards <= MAX_SHARDS:
            raise ValueError(f"The number of shards must be from 1 to {MAX_SHARDS}, not {self.shards}.")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class MapRequest:
    """A map of the SAE with the slug ``sae``: see umap-learn for ``n_neighbors`` and ``min_dist``.

    ``metric`` is cosine: what the neighbours of features go by on their pages, too.
    """

    sae: str
    n_neighbors: int = 15
    min_dist: float = 0.05
    metric: str = "cosine"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.n_neighbors <= 200:
            raise ValueError(f"The number of neighbours must be from 2 to 200, not {self.n_neighbors}.")
        if not 0 <= self.min_dist <= 0.99:
            raise ValueError(f"The least distance must be from 0 to 0.99, not {self.min_dist:g}.")
        if self.metric != "cosine":
            raise ValueError(f"The metric {self.metric[:50]} is not known: there is cosine alone.")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"The seed must be from 0 to {2**32 - 1}, not {self.seed}.")

    def as_json(self) -> dict[str, Any]:
        return asdict(self)
