"""HTML of what a page repeats: labels, lines of a table, examples.

A template would spend more on these than everything else on the page costs. Whatever comes from models, corpora and
people goes through ``_text``: it is made visible and escaped.
"""

from collections.abc import Iterable
from html import escape

from django.utils.safestring import SafeString

from features.evidence import Related
from features.models import Context, Label, Run
from features.passages import passage_html
from features.plots.bars import Bar
from features.selectors import Effect, ReadableExample, Row
from features.templatetags.reading import bound, held, one_in, percent, signif, token, visible

NOTHING = '<span class="quiet">\N{EN DASH}</span>'


def _text(text: str) -> str:
    return escape(visible(text))


def label_html(label: Label | None) -> SafeString:
    """The words, and a badge that says who or what wrote them. Nothing is fetched if the author was."""
    if label is None:
        return SafeString(NOTHING)
    return SafeString(f'<span class="label {label.source}"><bdi>{_text(label.text)}</bdi></span> {_badge(label)}')


def _badge(label: Label) -> str:
    if label.source == Label.Source.RULE:
        share, n = percent(label.precision), label.n_held_out
        title = f"Written by a rule, not by a person. The rule holds on {share} of {n} held-out examples."
        says = f"rule: {_text(label.rule)} · {held(label)}/{n} held-out"
        return f'<span class="badge rule" title="{title}">{says}</span>'
    if label.source == Label.Source.MODEL:
        asked = f": {label.method}" if label.method else ""
        title = f"Written by a model, not by a person{asked}."
        return f'<span class="badge model" title="{_text(title)}">{_text(label.explainer or "a model")}</span>'
    who = label.author.get_username() if label.author else label.author_name or "a person"
    return f'<span class="badge person">{_text(who)}</span>'


def rows_html(
    rows: Iterable[Row], run_query: str = "", *, selectable: bool = False, with_sae: bool = False
) -> SafeString:
    """Lines of a table. ``selectable``: each begins with a box to tick; ``with_sae``: it says which SAE it is of."""
    return SafeString("".join([_row(row, escape(run_query), selectable, with_sae) for row in rows]))


def _row(row: Row, run_query: str, selectable: bool, with_sae: bool) -> str:
    index, sae, activity = row.feature.index, row.feature.sae, row.activity
    name = escape(f"{sae.slug}/{index}")
    dead = ' class="dead"' if activity and not activity.density else ""
    cells = [f'<th scope="row" class="num"><a href="{escape(row.address)}{run_query}">{index}</a></th>\n']
    if selectable:
        box = f'type="checkbox" form="selection" name="feature" value="{name}" aria-label="Select feature {index}"'
        cells.insert(0, f'<td class="pick"><input {box}></td>\n')
    if with_sae:
        where = f"<small>{_text(sae.model.name)} · {escape(sae.site)}</small>"
        cells.append(f'<td class="of"><a href="{escape(sae.get_absolute_url())}">{_text(sae.name)}</a>{where}</td>\n')
    cells.append(f'<td class="labelled">{label_html(row.feature.label)}</td>\n')
    return f'<tr data-feature="{name}"{dead}>\n{"".join(cells)}{_activity_cells(row)}</tr>\n'


def _activity_cells(row: Row) -> str:
    activity, run = row.activity, row.run
    if activity is None or run is None:
        said = f"Run {run.pk} did not read this feature." if run else "Nothing has been read through this SAE yet."
        return f'<td class="quiet unread" colspan="6">{said}</td>\n'
    highest, mean = (signif(v) if v else NOTHING for v in (activity.max_activation, activity.mean_activation))
    tokens = "".join([f'<span class="tok"><bdi>{escape(token(text))}</bdi></span> ' for text in row.top_tokens])
    return (
        f'<td class="num density">{_density(activity.density, run)}</td>\n'
        f'<td class="num max">{highest}</td>\n<td class="num mean">{mean}</td>\n'
        f'<td class="drawn">{_spark(row)}</td>\n<td class="tokens">{tokens}</td>\n'
        f'<td class="read">{_strongest(row, activity.density, run)}</td>\n'
    )


def _density(density: float, run: Run) -> str:
    if density:
        return f"{percent(density)}<small>{one_in(density)}</small>"
    return "dead" + (f"<small>&lt; {percent(bound(run.n_tokens))}</small>" if run.n_tokens else "")


def _spark(row: Row) -> str:
    if not row.sparkline.path:
        return ""
    box = f'class="spark" viewBox="0 0 {row.sparkline.width} 20" preserveAspectRatio="none"'
    return f'<svg {box} role="img" aria-label="histogram of activations"><path d="{row.sparkline.path}"/></svg>'


def _strongest(row: Row, density: float, run: Run) -> str:
    if row.passage:
        return passage_html(row.passage, still=True)
    read = f" in {run.n_tokens:,} tokens" if run.n_tokens else ""
    said = "no example is kept" if density else f"never fired{read}"
    return f'<span class="quiet">{said}</span>'


def example_html(example: ReadableExample, address: str, run: Run, run_query: str, *, unfolded: bool) -> SafeString:
    """A context with its highlights and where it is from; its link unfolds it, or folds it again.

    ``address`` is the feature's page; ``run_query`` keeps the links with the run that was chosen.
    """
    context, home = example.context, escape(address)
    at = f"{home}contexts/{context.number}/"
    value, place = value_html(example), context_place(context)
    href, query = (home, f"?fold=1&amp;run={run.pk}") if unfolded else (at, f"?run={run.pk}")
    swap = f'hx-get="{at}{query}" hx-target="closest .example" hx-swap="outerHTML"'
    link = f'<a id="context-{context.number}" href="{href}{escape(run_query)}" {swap}>'
    return SafeString(
        f'<article class="example{" open" if unfolded else ""}">\n  {passage_html(example.passage, breaks=unfolded)}\n'
        f'  <footer>{value} <span class="from">{place}</span> '
        f"{link}{'Fold' if unfolded else 'Full context'}</a></footer>\n</article>\n"
    )


def value_html(example: ReadableExample) -> SafeString:
    """The maximum of an example; nothing for a silent one."""
    if example.value is None:
        return SafeString("")
    title = ' title="pre-activation"' if example.near else ""
    return SafeString(f'<span class="value"{title}>{signif(example.value)}</span>')


def context_place(context: Context) -> SafeString:
    """Which document a context is of, and where in it."""
    document = [f"<bdi>{_text(part)}</bdi>" for part in (context.document_source, context.document_id) if part]
    return SafeString(" · ".join([*document, f"context {context.number:,}, from token {context.offset:,}"]))


def effects_html(effects: Iterable[Effect]) -> SafeString:
    """Lines of a table of logit effects: the token with its bar, and the value."""
    return SafeString("".join([_effect(effect) for effect in effects]))


def _effect(effect: Effect) -> str:
    box = 'class="meter" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"'
    meter = f'<svg {box}><rect width="{effect.width}" height="10"/></svg>'
    said = f'<span class="tok" title="id {effect.id}"><bdi>{escape(token(effect.token))}</bdi></span>'
    return f'\n<tr><td>{meter}{said}</td><td class="num">{_fixed(effect.value, 2)}</td></tr>'


def related_html(features: Iterable[Related], base: str, run_query: str) -> SafeString:
    """Lines of a table of neighbours or partners. ``base`` is the address of the SAE's features."""
    before, behind = escape(base), escape(run_query)
    return SafeString("".join([_related(near, before, behind) for near in features]))


def _related(near: Related, before: str, behind: str) -> str:
    index, shown = near.feature.index, label_html(near.feature.label)
    link = f'<th scope="row" class="num"><a href="{before}{index}/{behind}">{index}</a></th>'
    return f'\n<tr>{link}<td>{shown}</td><td class="num">{_fixed(near.value, 3)}</td></tr>'


def _fixed(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return text if float(text) else text.removeprefix("-")


def bars_html(bars: Iterable[Bar]) -> SafeString:
    """The bars of a chart, each with its tip."""
    return SafeString("".join([_bar(bar) for bar in bars]))


def _bar(bar: Bar) -> str:
    box = f'x="{bar.x}" y="{bar.y}" width="{bar.width}" height="{bar.height}"'
    return f"<rect {box}><title>{escape(bar.tip)}</title></rect>"
