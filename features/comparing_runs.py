"""Two runs of one SAE, or two SAEs, side by side: their figures, what was read and how, and what changed most."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.columns import columns_of
from features.models import SAE, Feature, Run
from features.store.columns import RunColumns

CHANGED = 15
NOT_SETTINGS = {"hook", "layer"}  # the SAE's own


@dataclass(frozen=True)
class Figure:
    """A figure of quality, and how many places behind the point it is read to."""

    name: str
    column: str
    places: int
    better: str


FIGURES = (
    Figure("Explained variance", "explained_variance", 3, "near 1"),
    Figure("FVU", "fvu", 3, "near 0"),
    Figure("L0", "l0", 1, ""),
    Figure("Cosine", "cosine", 3, "near 1"),
    Figure("Shrinkage", "shrinkage", 3, "near 1"),
    Figure("Cross entropy recovered", "ce_recovered", 3, "near 1"),
    Figure("Cross entropy added, in nats", "ce_delta", 3, "near 0"),
    Figure("KL recovered", "kl_recovered", 3, "near 1"),
    Figure("Alive features", "n_alive", 0, ""),
    Figure("Dense features", "n_dense", 0, ""),
    Figure("Very dense features", "n_very_dense", 0, ""),
    Figure("Tokens", "n_tokens", 0, ""),
)


@dataclass(frozen=True)
class Row:
    """A figure of both; None where one of them has none."""

    figure: Figure
    a: float | None
    b: float | None

    @property
    def shown(self) -> tuple[str, str]:
        """Both as text."""
        return self._text(self.a), self._text(self.b)

    @property
    def difference(self) -> str:
        """b - a with its sign; empty where one is not known."""
        if self.a is None or self.b is None:
            return ""
        return signed(self.b - self.a, self.figure.places)

    def _text(self, value: float | None) -> str:
        return "\N{EN DASH}" if value is None else f"{value:,.{self.figure.places}f}"


@dataclass(frozen=True)
class Difference:
    """Something that is not the same of both."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True)
class Changed:
    """A feature and a number of it in both runs; ``octaves`` is log2 of b over a."""

    feature: Feature
    a: float
    b: float
    octaves: float

    @property
    def shown(self) -> str:
        return signed(self.octaves, 2)


def signed(value: float, places: int) -> str:
    """With a plus or a minus of the width of a figure; 0 has none."""
    return f"{value:+,.{places}f}".replace("-", "\N{MINUS SIGN}") if value else "0"


def figures(a: Run | None, b: Run | None) -> list[Row]:
    """Those that at least one of them has."""
    rows = [Row(figure, getattr(a, figure.column, None), getattr(b, figure.column, None)) for figure in FIGURES]
    return [row for row in rows if row.a is not None or row.b is not None]


def differences(a: Run, b: Run) -> list[Difference]:
    """What was read, with which settings and by which code, where it is not the same."""
    plain = [(_facts(run), run.settings, run.provenance) for run in (a, b)]
    merged: list[dict[str, Any]] = []
    for facts, settings, provenance in plain:
        kept = {name: value for name, value in settings.items() if name not in NOT_SETTINGS}
        made = {name: provenance.get(name) for name in ("commit", "device", "dtype", "sink_threshold")}
        packages = provenance.get("packages")
        merged.append(facts | kept | made | (dict(packages) if isinstance(packages, dict) else {}))
    return unlike(*merged)


def _facts(run: Run) -> dict[str, Any]:
    corpus = run.corpus
    return {
        "corpus": corpus.name,
        "corpus digest": corpus.digest[:12],
        "origin": run.get_origin_display(),
        "seed": run.seed,
    }


def unlike(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[Difference]:
    """The names whose values differ, in the order of ``a``, then those that only ``b`` has."""
    names = [*a, *(name for name in b if name not in a)]
    return [Difference(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)]


def changed(a: Run, b: Run) -> tuple[list[Changed], list[Changed]]:
    """The features whose density changed most, and whose maximum did: one query beside the columns."""
    first, second = columns_of(a), columns_of(b)
    densities = density_change(first, second, a.n_tokens, b.n_tokens)
    maxima = maximum_change(first, second)
    tops = [_most(densities), _most(maxima)]
    wanted = Feature.objects.filter(sae=a.sae_id, index__in={int(i) for top in tops for i in top})
    known = {f.index: f for f in wanted.select_related("label__author").defer("logits", "neighbours")}
    pairs = ((first.density, second.density, densities), (first.max_activation, second.max_activation, maxima))
    by_density, by_maximum = (
        [Changed(known[i], float(x[i]), float(y[i]), float(change[i])) for i in top.tolist() if i in known]
        for top, (x, y, change) in zip(tops, pairs, strict=True)
    )
    return by_density, by_maximum


def density_change(a: RunColumns, b: RunColumns, n_a: int, n_b: int) -> NDArray[np.float64]:
    """log2 of b's density over a's, [d_sae], with half a firing added to each, so that a dead feature has a number.

    NaN where one of the runs did not read the feature.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.log2((b.n_firing + 0.5) / (n_b + 1)) - np.log2((a.n_firing + 0.5) / (n_a + 1))
    return np.where(a.present & b.present, change, np.nan)


def maximum_change(a: RunColumns, b: RunColumns) -> NDArray[np.float64]:
    """log2 of b's maximum over a's, [d_sae]; NaN where either is dead."""
    with np.errstate(divide="ignore", invalid="ignore"):
        change = np.log2(b.max_activation / a.max_activation)
    return np.where((a.max_activation > 0) & (b.max_activation > 0), change, np.nan)


def _most(change: NDArray[np.float64]) -> NDArray[np.int64]:
    """Indexes of the largest changes, either way, of equals the lower index first; those of 0 are none."""
    size = np.nan_to_num(np.abs(change), nan=0.0)
    found = np.argsort(-size, kind="stable")[:CHANGED]
    return found[size[found] > 0].astype(np.int64)


def card_rows(a: SAE, b: SAE) -> list[Difference]:
    """What two SAEs are, alike or not."""
    return [Difference(name, x, y) for (name, x), (_, y) in zip(_card(a), _card(b), strict=True)]


def _card(sae: SAE) -> Sequence[tuple[str, Any]]:
    return [
        ("model", sae.model.name),
        ("site", sae.site),
        ("architecture", sae.architecture),
        ("k", sae.k and f"{sae.k:,}"),
        ("d_in", f"{sae.d_in:,}"),
        ("features", f"{sae.d_sae:,}"),
        ("d_out", f"{sae.d_out:,}"),
        ("format", sae.format),
        ("L0 by its files", sae.card.get("reported_l0")),
        ("trained on tokens", sae.training.get("tokens")),
        ("digest", sae.digest[:12]),
    ]
