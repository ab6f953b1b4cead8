"""The state of an extraction, worked out in plain Python from whole matrices, without a line of the engine."""

import math
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

LAST = (1 << 62) - 1
N_BINS, FIRST_BIN, PER_OCTAVE = 128, -64, 4
EDGES = [float(np.float32(2.0 ** (i / PER_OCTAVE))) for i in range(FIRST_BIN + 1, FIRST_BIN + N_BINS)]


@dataclass
class Context:
    """``acts`` and ``near`` [length][F]: activations and, where those are 0, pre-activations that came close."""

    number: int
    token_ids: list[int]
    mask: list[bool]
    acts: list[list[float]]
    near: list[list[float]]


@dataclass
class Row:
    feature: int
    context: int
    value: float
    peak: int
    priority: int
    tokens: dict[int, float]


@dataclass
class Truth:
    """The arrays of State.arrays(), by the same names; ``quality.sums`` aside."""

    contexts: list[Context]
    d_sae: int
    top: int
    reservoir: int
    seed: int
    fired: list[Row] = field(default_factory=list)
    near: list[Row] = field(default_factory=list)

    def arrays(self) -> dict[str, np.ndarray]:
        for context in self.contexts:
            for feature in range(self.d_sae):
                fires = {p: a[feature] for p, a in self.unmasked(context, context.acts) if a[feature] > 0}
                close = {p: a[feature] for p, a in self.unmasked(context, context.near) if a[feature] > 0}
                if fires:
                    self.fired.append(self.row(context, feature, fires))
                elif close:
                    row = self.row(context, feature, close)
                    row.tokens = {row.peak: row.value}
                    self.near.append(row)
        kept = [r for f in range(self.d_sae) for r in self.kept(f)]
        near = [r for f in range(self.d_sae) for r in best([r for r in self.near if r.feature == f])[:4]]
        return self.sums() | columns("fired", kept) | columns("near", near) | self.pool()

    def unmasked(self, context: Context, table: list[list[float]]) -> list[tuple[int, list[float]]]:
        return [(p, row) for p, (row, counts) in enumerate(zip(table, context.mask, strict=True)) if counts]

    def row(self, context: Context, feature: int, tokens: dict[int, float]) -> Row:
        value = max(tokens.values())
        peak = min(p for p, v in tokens.items() if v == value)
        key, ids = 0, context.token_ids
        for p in range(peak - 8, peak + 9):
            key = mix(key ^ (ids[p] + 1 if 0 <= p < len(ids) else 0))
        return Row(feature, context.number, value, peak, mix(key ^ mix(feature + (self.seed << 32))), tokens)

    def kept(self, feature: int) -> list[Row]:
        own = [r for r in self.fired if r.feature == feature]
        chosen = best(own)[: self.top]
        for octave in {math.frexp(r.value)[1] for r in own}:
            members = best([r for r in own if math.frexp(r.value)[1] == octave])
            chosen += sorted(members, key=lambda r: r.priority)[: self.reservoir]
        return sorted({r.context: r for r in chosen}.values(), key=order)

    def sums(self) -> dict[str, np.ndarray]:
        histogram = np.zeros((self.d_sae, N_BINS), np.int64)
        moments = np.zeros((self.d_sae, 6), np.int64)
        n_contexts = np.zeros(self.d_sae, np.int64)
        for row in self.fired:
            n_contexts[row.feature] += 1
            for value in row.tokens.values():
                histogram[row.feature, sum(edge <= value for edge in EDGES)] += 1
                moments[row.feature] += parts(value) + parts(Fraction(value) ** 2)
        return {"sums.n_contexts": n_contexts, "sums.histogram": histogram.ravel(), "sums.moments": moments}

    def pool(self) -> dict[str, np.ndarray]:
        """Of so few contexts, all are in the pool."""
        numbers = sorted(c.number for c in self.contexts)
        tokens = sorted((r.context, p, r.feature) for r in self.fired for p in r.tokens)
        context, position, feature = zip(*tokens, strict=True) if tokens else ((), (), ())
        return {
            "pool.members": np.array(numbers, np.int64),
            "pool.seen": np.array(numbers, np.int64),
            "pool.context": np.array(context, np.int32),
            "pool.position": np.array(position, np.int16),
            "pool.feature": np.array(feature, np.int32),
            "pool.n_tokens": np.array([sum(map(sum, (c.mask for c in self.contexts)))]),
        }


def order(row: Row) -> tuple[float, int]:
    return -row.value, row.context


def best(rows: list[Row]) -> list[Row]:
    """Best first; of rows with one text around the peak only the best."""
    found: dict[int, Row] = {}
    for row in sorted(rows, key=order):
        found.setdefault(row.priority, row)
    return list(found.values())


def columns(name: str, rows: list[Row]) -> dict[str, np.ndarray]:
    return {
        f"{name}.feature": np.array([r.feature for r in rows], np.int32),
        f"{name}.context": np.array([r.context for r in rows], np.int32),
        f"{name}.value": np.array([r.value for r in rows], np.float32),
        f"{name}.peak": np.array([r.peak for r in rows], np.int16),
        f"{name}.priority": np.array([r.priority for r in rows], np.int64),
        f"{name}.length": np.array([len(r.tokens) for r in rows], np.int16),
        f"{name}.positions": np.array([p for r in rows for p in r.tokens], np.int16),
        f"{name}.values": np.array([v for r in rows for v in r.tokens.values()], np.float32),
    }


def parts(value: float | Fraction) -> list[int]:
    """Multiples of 1, 2**-28 and 2**-56, the last one rounded to even."""
    found, rest = [], Fraction(value)
    for _ in range(2):
        found.append(math.floor(rest))
        rest = (rest - math.floor(rest)) * 2**28
    return [*found, round(rest)]


def mix(x: int) -> int:
    x = (x + 0x1E3779B97F4A7C15) & LAST
    x = ((x ^ (x >> 30)) * 0x3F58476D1CE4E5B9) & LAST
    x = ((x ^ (x >> 27)) * 0x14D049BB133111EB) & LAST
    return x ^ (x >> 31)
