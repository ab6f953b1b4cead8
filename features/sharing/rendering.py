"""A snapshot as a page shows it: everything out of its own JSON, nothing out of the database.

The site's page, the shared page and the page in an archive are one fragment, ``sharing/_evidence.html``.
"""

from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from django.template.loader import render_to_string
from django.utils.safestring import SafeString

from features.markup import context_place, label_html, value_html
from features.passages import Passage, Piece, alone, in_context, paragraph_html, pieces_html, read_values
from features.plots.bars import BarChart, activation_chart, aligned, density_chart
from features.selectors import Effect, ReadableExample, meters
from features.sharing import shapes
from features.sharing.shapes import Frozen
from features.store.examples import BANDS, NEAR_MISS, SILENT, Example
from features.store.histogram import Histogram
from features.store.ranked import Ranked
from features.templatetags.reading import token
from features.vocabulary import Tokens

_NO_IDS = np.empty(0, np.uint32)


@dataclass(frozen=True)
class Few(Tokens):
    """The tokens that a snapshot names, and no others."""

    parts: dict[int, bytes] = field(default_factory=dict)

    def bytes_of(self, token_id: int) -> bytes:
        return self.parts[token_id] if token_id in self.parts else (self._whole.get(token_id) or "").encode()


def tokens_from(shape: shapes.Tokens) -> Few:
    whole: dict[int, str | None] = {int(i): text for i, text in shape.texts.items()}
    parts = {int(i): bytes.fromhex(raw) for i, raw in shape.bytes.items()}
    return Few(b"", _NO_IDS, frozenset(shape.special), shape.joiner, whole, parts)


@dataclass(frozen=True)
class Shown:
    """An example, and what stands before and after it in its context."""

    example: ReadableExample
    before: list[Piece]
    after: list[Piece]


@dataclass(frozen=True)
class ShownBand:
    """``name`` as features.store.examples has it."""

    name: str
    examples: list[Shown]


@dataclass(frozen=True)
class ShownFeature:
    """A feature with where it is from, ready for its template."""

    feature: shapes.Feature
    source: shapes.Source
    chart: BarChart | None
    positive: list[Effect]
    negative: list[Effect]
    bands: list[ShownBand]


def evidence_html(frozen: Frozen) -> SafeString:
    """The fragment. ``freezing.page_of`` has it for less: drawn before."""
    return SafeString(render_to_string("sharing/_evidence.html", {"frozen": frozen} | _shown(frozen)))


def figures_of(frozen: Frozen) -> dict[str, str]:
    """The figures as SVG files that stand alone, by name."""
    charts = {name: chart for name, chart in _charts(frozen).items() if chart}
    return {name: render_to_string("sharing/figure.svg", {"chart": chart}) for name, chart in charts.items()}


def _charts(frozen: Frozen) -> dict[str, BarChart | None]:
    content = frozen.content
    if isinstance(content, shapes.Feature):
        return {"activations.svg": _histograms(content)[0]}
    if isinstance(content, shapes.Comparison):
        first, second = _histograms(*content.features)
        return {"activations-first.svg": first, "activations-second.svg": second}
    if isinstance(content, shapes.Quality):
        return {"densities.svg": _densities(content)}
    return {}


def _shown(frozen: Frozen) -> dict[str, Any]:
    content, sources = frozen.content, frozen.sources
    if isinstance(content, shapes.Feature):
        return {"side": _feature(content, sources[0], *_histograms(content))}
    if isinstance(content, shapes.Comparison):
        charts = _histograms(*content.features)
        return {"sides": [_feature(*each) for each in zip(content.features, sources, charts, strict=True)]}
    if isinstance(content, shapes.Quality):
        return {"run": sources[0].run, "sae": sources[0].sae, "chart": _densities(content)}
    if isinstance(content, shapes.Text):
        return {"passage": _text(content), "peak": _peak(content)}
    return {"items": [(item, sources[item.source]) for item in content.items]}


def _histograms(*features: shapes.Feature) -> list[BarChart | None]:
    made = [_histogram(f.activity.histogram if f.activity else None) for f in features]
    return [activation_chart(histogram) for histogram in (aligned(*made) if len(made) > 1 else made)]


def _histogram(shape: shapes.Histogram | None) -> Histogram:
    edges, counts = (shape.edges, shape.counts) if shape else ([], [])
    return Histogram(np.asarray(edges, np.float32), np.asarray(counts, np.uint64))


def _densities(content: shapes.Quality) -> BarChart | None:
    found = content.densities
    return density_chart(found.first, found.counts, content.n_dead) if found else None


def _feature(feature: shapes.Feature, source: shapes.Source, chart: BarChart | None) -> ShownFeature:
    tokens = tokens_from(feature.tokens)
    positive, negative = meters([_ranked(feature.positive), _ranked(feature.negative)], tokens)
    activity = feature.activity
    bands = _bands(activity, tokens) if activity else []
    return ShownFeature(feature, source, chart, positive, negative, bands)


def _ranked(effects: list[shapes.Effect]) -> Ranked:
    return Ranked(
        np.asarray([effect.id for effect in effects], np.int64),
        np.asarray([effect.value for effect in effects], np.float32),
    )


def _bands(activity: shapes.Activity, tokens: Tokens) -> list[ShownBand]:
    made = [ShownBand(name, []) for name in BANDS]
    for shape in activity.examples:
        ids = np.asarray(shape.token_ids, np.uint32)
        positions, values = np.asarray(shape.positions, np.int64), np.asarray(shape.values, np.float32)
        example = Example(shape.number, shape.band, positions, values)
        around = 0.0 if shape.band in {NEAR_MISS, SILENT} else activity.max_activation
        before, passage, after = in_context(tokens, ids, example, around)
        value = None if shape.band == SILENT else example.max_value
        context: Any = shape  # it has what a Context has
        readable = ReadableExample(context, passage, value, shape.band == NEAR_MISS)
        made[shape.band].examples.append(Shown(readable, before, after))
    return [band for band in made if band.examples]


def _text(content: shapes.Text) -> Passage:
    full = max(content.corpus_maximum or 0.0, *content.values, 0.0)
    return read_values(tokens_from(content.tokens), content.token_ids, content.values, full)


def _peak(content: shapes.Text) -> dict[str, Any] | None:
    """Where it is highest: the first such token; None if it fires nowhere."""
    highest = max(content.values, default=0.0)
    if highest <= 0:
        return None
    return {"value": highest, "at": content.values.index(highest), "n": sum(value > 0 for value in content.values)}


def examples_html(shown: list[Shown]) -> SafeString:
    """Contexts in short, each of which unfolds without a script."""
    return SafeString("".join([_example(each) for each in shown]))


def _example(shown: Shown) -> str:
    example, whole = shown.example, ""
    inner = pieces_html(example.passage.pieces)
    if shown.before or shown.after:
        context = f'<p class="passage" dir="auto">{pieces_html(shown.before)}{inner}{pieces_html(shown.after)}</p>'
        whole = f'<details class="whole"><summary>Full context</summary>{context}</details>'
    place = context_place(example.context)
    return (
        f'<article class="example">\n{paragraph_html(example.passage, inner)}\n'
        f'<footer>{value_html(example)} <span class="from">{place}</span></footer>{whole}</article>\n'
    )


def near_html(features: list[shapes.Near]) -> SafeString:
    """Lines of a table of neighbours or partners, without links: what they name may be gone."""
    return SafeString("\n".join([_near(near) for near in features]))


def _near(near: shapes.Near) -> str:
    label: Any = near.label  # it has what a Label has
    cells = f'<td>{label_html(label)}</td><td class="num">{near.value:.3f}</td>'
    return f'<tr><th scope="row" class="num">{near.index}</th>{cells}</tr>'


def tokens_html(content: shapes.Text) -> SafeString:
    """Lines of a table: every token of a text with its id and what the feature does there."""
    tokens = tokens_from(content.tokens)
    rows = enumerate(zip(content.token_ids, content.values, strict=True))
    return SafeString("\n".join([_token(place, i, alone(tokens, [i]), value) for place, (i, value) in rows]))


def _token(place: int, token_id: int, text: str, value: float) -> str:
    shown = f'<span class="tok"><bdi>{escape(token(text))}</bdi></span>'
    cells = f'<td>{shown}</td><td class="num">{token_id}</td><td class="num">{value or 0}</td>'
    return f'<tr><th scope="row" class="num">{place}</th>{cells}</tr>'
