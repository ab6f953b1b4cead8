"""Files of the layouts that are read, small and made here."""

import gzip
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from features.models import Run
from jobs import imports
from jobs.models import Import
from jobs.transfer.out import files
from jobs.work.importing import read

KEYS: dict[str, Any] = {"modelId": "gpt2-small", "layer": "6-res-jb"}


def feature(index: int, **values: Any) -> dict[str, Any]:
    """Fires on 1 % of 100,000 tokens, as its histogram counts them."""
    return {
        **KEYS,
        "index": str(index),
        "sourceSetName": "res-jb",
        "maxActApprox": 8.0,
        "frac_nonzero": 0.01,
        "freq_hist_data_bar_heights": [400, 300, 200, 100],
        "freq_hist_data_bar_values": [1.0, 3.0, 5.0, 7.0],
        "pos_str": [" river", " bank"],
        "pos_values": [1.5, 1.25],
        "neg_str": [" the"],
        "neg_values": [-0.5],
        "topkCosSimIndices": [],
        "topkCosSimValues": [],
        "hookName": "blocks.6.hook_resid_pre",
        "vector": [],
    } | values


def activation(index: int, tokens: list[str], values: list[float], **more: Any) -> dict[str, Any]:
    """Of the top group, unless ``more`` says another interval."""
    top = {"binMin": -1, "binMax": 99, "binContains": -1, "maxValue": 0, "maxValueTokenIndex": 0}
    return {**KEYS, "index": str(index), "tokens": tokens, "values": values} | top | more


def explanation(index: int, text: str, key: str = "", **more: Any) -> dict[str, Any]:
    about = {"typeName": "oai_token-act-pair", "explanationModelName": "gpt-4o-mini", "authorId": "ann"}
    return {**KEYS, "index": str(index), "id": key or f"e{index}", "description": text, "embedding": ""} | about | more


def write_lines(path: Path, records: Iterable[dict[str, Any]]) -> Path:
    """Lines of JSON, gzip where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def write_folder(root: Path, n: int = 3) -> Path:
    """A source of Neuronpedia's with ``n`` features, two examples and an explanation each."""
    write_lines(root / "features/batch-0.jsonl.gz", (feature(i) for i in range(n)))
    write_lines(
        root / "activations/batch-0.jsonl.gz",
        (
            activation(i, [f" word{i}", " river", " \u00e9"][: 2 + k], [0.0, 4.0 + i - k, 1.0][: 2 + k], **band)
            for i in range(n)
            for k, band in enumerate(({}, {"binMin": 2.0, "binMax": 4.0, "binContains": 0.3}))
        ),
    )
    write_lines(root / "explanations/batch-0.jsonl.gz", (explanation(i, f"rivers and banks {i}") for i in range(n)))
    write_lines(root / "model.jsonl", [{"id": "gpt2-small", "displayName": "GPT2-Small", "layers": 12}])
    about = {"id": "6-res-jb", "modelId": "gpt2-small", "setName": "res-jb", "dataset": "openwebtext"}
    write_lines(root / "source.jsonl", [about | {"num_prompts": 1000, "num_tokens_in_prompt": 100}])
    return root


def imported(path: Path, owner: Any = None, name: str = "") -> Import:
    """An import of what lies at ``path``, read to its end."""
    row = imports.add_path(path, name, owner, ask=False)
    read(row.pk)
    row.refresh_from_db()
    return row


def exported(run: Run, folder: Path, batch: int = 10) -> Path:
    for name, blocks in files(run, batch):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(blocks))
    return folder
