"""One record of Neuronpedia's layout, checked: what is kept of it, or a sentence that refuses it.

Numbers that follow from others are worked out anew and not read: the maximum and its place from the values, the firing
tokens from the density. Values of 0 and below do not fire.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.store.histogram import Histogram
from jobs.bulk import clean
from jobs.transfer.faults import Refused

MAX_INDEX = (1 << 24) - 1
MAX_TOKENS = 32_768  # of a context
MAX_TOKEN = 2_000  # characters of one token
MAX_LISTED = 255  # logit effects or neighbours in one list
MAX_BARS = 1_000
MAX_EXPLANATION = 20_000
_SOURCE_ID = re.compile(r"(\d{1,4})-(.{1,180})", re.ASCII)


@dataclass(frozen=True, slots=True)
class FeatureRecord:
    """``up`` and ``down``: tokens and what the feature adds to their logits; ``near``: indexes and cosines.

    ``norm`` and ``width`` are those of the decoder's row, None and 0 where it is not in the record.
    """

    index: int
    density: float
    maximum: float
    histogram: Histogram
    up: tuple[list[str], NDArray[np.float32]]
    down: tuple[list[str], NDArray[np.float32]]
    near: tuple[NDArray[np.int64], NDArray[np.float32]]
    norm: float | None
    width: int


@dataclass(frozen=True, slots=True)
class ActivationRecord:
    """``positions`` and float32 ``values`` of the tokens on which it fires; ``low`` is None in the top group."""

    index: int
    tokens: list[str]
    positions: NDArray[np.int64]
    values: NDArray[np.float32]
    low: float | None
    document_id: str
    document_source: str


@dataclass(frozen=True, slots=True)
class ExplanationRecord:
    index: int
    id: str
    text: str
    explanation: str
    method: str
    explainer: str
    author: str


@dataclass(frozen=True, slots=True)
class Source:
    """Which features a file is about: ``id`` is the layer and the set's name, as in 6-res-jb."""

    model: str
    id: str

    @property
    def layer(self) -> int:
        match = _SOURCE_ID.fullmatch(self.id)
        return int(match[1]) if match else 0

    @property
    def set_name(self) -> str:
        match = _SOURCE_ID.fullmatch(self.id)
        return match[2] if match else self.id


def source_of(record: dict[str, Any]) -> Source:
    """The model and source that a line names. Raises Refused."""
    model, source = text(record, "modelId", 200), text(record, "layer", 200)
    if not model:
        raise Refused("it has no modelId")
    if not _SOURCE_ID.fullmatch(source):
        raise Refused("its layer is no layer's number and a set's name, as in 6-res-jb")
    return Source(model, source)


def belongs(record: dict[str, Any], source: Source) -> None:
    """Raise Refused if the record says that it is another source's."""
    if (found := source_of(record)) != source:
        raise Refused(f"it is of {found.model}/{found.id}, the others of {source.model}/{source.id}")


def feature(record: dict[str, Any], index: str = "index") -> FeatureRecord:
    """``index``: the key of the feature's number. Raises Refused."""
    vector = numbers(record, "vector", 1 << 18)
    values, heights = (numbers(record, f"freq_hist_data_bar_{name}", MAX_BARS) for name in ("values", "heights"))
    return FeatureRecord(
        index=index_of(record, index),
        density=share(record, "frac_nonzero"),
        maximum=number(record, "maxActApprox", 0.0),
        histogram=histogram_of(values, heights),
        up=_effects(record, "pos"),
        down=_effects(record, "neg"),
        near=_neighbours(record),
        norm=float(np.linalg.norm(vector.astype(np.float64))) if len(vector) else None,
        width=len(vector),
    )


def activation(record: dict[str, Any], index: int, names: tuple[str, str]) -> ActivationRecord:
    """``names``: the keys of an interval's lower end and of its share. Raises Refused."""
    tokens = _tokens(record)
    values = numbers(record, "values", MAX_TOKENS)
    if len(tokens) != len(values):
        raise Refused(f"it has {len(tokens):,} tokens and {len(values):,} values")
    positions = np.flatnonzero(values > 0)
    if not len(positions):
        raise Refused("none of its values is above 0: the feature does not fire there")
    return ActivationRecord(
        index,
        tokens,
        positions,
        values[positions],
        _interval(record, *names),
        _name(record.get("dataIndex")),
        _name(record.get("dataSource")),
    )


def explanation(record: dict[str, Any]) -> ExplanationRecord:
    """A long text is kept whole as the explanation, its beginning as the label. Raises Refused."""
    said = " ".join(text(record, "description", MAX_EXPLANATION).split())
    if not said:
        raise Refused("its description is empty")
    return ExplanationRecord(
        index=index_of(record),
        id=text(record, "id", 100),
        text=said if len(said) <= 500 else f"{said[:499]}…",
        explanation="" if len(said) <= 500 else said,
        method=text(record, "typeName", 100),
        explainer=text(record, "explanationModelName", 200),
        author=text(record, "authorId", 200),
    )


def index_of(record: dict[str, Any], key: str = "index") -> int:
    """A feature's number, which may be written as text."""
    found = record.get(key)
    if isinstance(found, str) and found.isascii() and found.isdigit() and len(found) < 10:
        found = int(found)
    if type(found) is not int:
        raise Refused(f"its {key} is no whole number")
    if not 0 <= found <= MAX_INDEX:
        raise Refused(f"its {key} is {found}, and not from 0 to {MAX_INDEX:,}")
    return found


def text(record: dict[str, Any], key: str, limit: int) -> str:
    """Text as a database can hold it; "" for none."""
    found = record.get(key)
    if found is None:
        return ""
    if isinstance(found, int) and not isinstance(found, bool):
        found = str(found) if abs(found) < 1 << 64 else "?" * (limit + 1)
    if not isinstance(found, str):
        raise Refused(f"its {key} is no text")
    if len(found) > limit:
        raise Refused(f"its {key} has {len(found):,} characters, more than {limit:,}")
    return clean(found) or ""


def number(record: dict[str, Any], key: str, default: float | None = None) -> float:
    found = record.get(key)
    if found is None and default is not None:
        return default
    if isinstance(found, bool) or not isinstance(found, int | float) or abs(found) > 1e38 or math.isnan(found):
        raise Refused(f"its {key} is no finite number")
    return float(found)


def share(record: dict[str, Any], key: str) -> float:
    if not 0 <= (found := number(record, key)) <= 1:
        raise Refused(f"its {key} is {found:g}, and not from 0 to 1")
    return found


def count(record: dict[str, Any], key: str) -> int | None:
    """A whole number from 0, or None if the record does not say it."""
    found = record.get(key)
    if isinstance(found, float) and found.is_integer():
        found = int(found)
    if found is None:
        return None
    if type(found) is not int or not 0 <= found < 1 << 62:
        raise Refused(f"its {key} is no whole number from 0")
    return found


def numbers(record: dict[str, Any], key: str, limit: int) -> NDArray[np.float32]:
    """A list of finite numbers; none if it is absent."""
    found = record.get(key)
    if found is None:
        return np.empty(0, np.float32)
    return real_numbers(found, key, limit)


def real_numbers(found: object, key: str, limit: int) -> NDArray[np.float32]:
    if not isinstance(found, list):
        raise Refused(f"its {key} is no list")
    if len(found) > limit:
        raise Refused(f"its {key} has {len(found):,} entries, more than {limit:,}")
    if not found:
        return np.empty(0, np.float32)
    try:
        array = np.array(found)
    except (ValueError, OverflowError) as error:
        raise Refused(f"its {key} is no list of numbers") from error
    if array.dtype.kind not in "iuf" or array.ndim != 1:
        raise Refused(f"its {key} is no list of numbers")
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all():
        raise Refused(f"its {key} holds what is no finite number")
    return single


def whole_numbers(found: object, key: str, limit: int, below: int) -> NDArray[np.int64]:
    """A list of whole numbers from 0, each lower than ``below``."""
    if not isinstance(found, list) or set(map(type, found)) - {int}:
        raise Refused(f"its {key} is no list of whole numbers")
    if len(found) > limit:
        raise Refused(f"its {key} has {len(found):,} entries, more than {limit:,}")
    if found and not (min(found) >= 0 and max(found) < below):
        raise Refused(f"its {key} holds a number that is not from 0 to {below - 1:,}")
    return np.array(found, np.int64)


def histogram_of(centres: NDArray[np.float32], heights: NDArray[np.float32]) -> Histogram:
    """Bars as they were drawn: edges half way between their centres, the outer ones as far beyond; none below 0."""
    if len(centres) != len(heights):
        raise Refused(f"its histogram has {len(centres):,} bars and {len(heights):,} heights")
    if np.any(heights < 0) or np.any(heights != np.floor(heights)) or np.any(heights > 1e15):
        raise Refused("the heights of its histogram are no counts")
    if not np.any(heights):
        return Histogram(np.empty(0, np.float32), np.empty(0, np.uint64))
    middle = centres.astype(np.float64)
    if np.any(np.diff(middle) <= 0):
        raise Refused("the bars of its histogram do not ascend")
    half = (middle[1:] - middle[:-1]) / 2 if len(middle) > 1 else np.array([abs(middle[0]) / 2])
    inner = middle[:-1] + half[: len(middle) - 1]
    edges = np.concatenate([[middle[0] - half[0]], inner, [middle[-1] + half[-1]]])
    return Histogram(np.maximum(edges, 0).astype(np.float32), heights.astype(np.uint64))


def _tokens(record: dict[str, Any]) -> list[str]:
    found = record.get("tokens")
    if not isinstance(found, list) or not found:
        raise Refused("it has no list of tokens")
    return _strings(found, "tokens", MAX_TOKENS)


def _strings(found: object, key: str, limit: int) -> list[str]:
    if not isinstance(found, list) or set(map(type, found)) - {str}:
        raise Refused(f"its {key} is no list of texts")
    if len(found) > limit:
        raise Refused(f"its {key} has {len(found):,} entries, more than {limit:,}")
    if found and max(map(len, found)) > MAX_TOKEN:
        raise Refused(f"one of its {key} is longer than {MAX_TOKEN:,} characters")
    return found


def _effects(record: dict[str, Any], sign: str) -> tuple[list[str], NDArray[np.float32]]:
    words, values = record.get(f"{sign}_str"), numbers(record, f"{sign}_values", MAX_LISTED)
    found = _strings(words if words is not None else [], f"{sign}_str", MAX_LISTED)
    if len(found) != len(values):
        raise Refused(f"it has {len(found):,} {sign}_str and {len(values):,} {sign}_values")
    return found, values


def _neighbours(record: dict[str, Any]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    cosines = numbers(record, "topkCosSimValues", 10_000)
    listed = record.get("topkCosSimIndices")
    indexes = whole_numbers(listed if listed is not None else [], "topkCosSimIndices", 10_000, MAX_INDEX + 1)
    if len(indexes) != len(cosines):
        raise Refused(f"it has {len(indexes):,} topkCosSimIndices and {len(cosines):,} topkCosSimValues")
    return indexes[:MAX_LISTED], cosines[:MAX_LISTED]


def _interval(record: dict[str, Any], low: str, contains: str) -> float | None:
    """The lower end of the interval that the record stands for; None for the top group, and where it says nothing."""
    if record.get(low) is None or record.get(contains) is None:
        return None
    lowest = number(record, low)
    return None if lowest == -1 and number(record, contains) == -1 else lowest


def _name(found: object) -> str:
    """A document's number or name, as far as there is one."""
    if (
        isinstance(found, bool)
        or not isinstance(found, str | int)
        or (isinstance(found, int) and abs(found) >= 1 << 64)
    ):
        return ""
    return (clean(str(found)) or "")[:200]


def firing_share(histogram: Histogram, values: Sequence[float]) -> list[float]:
    """Of each value, the share of the counted activations that lie below it; bars are taken to be even inside."""
    total = float(histogram.counts.sum())
    below = np.concatenate([[0.0], np.cumsum(histogram.counts.astype(np.float64))]) / (total or 1.0)
    return [float(v) for v in np.interp(values, histogram.edges.astype(np.float64), below)]
