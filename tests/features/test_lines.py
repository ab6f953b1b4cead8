"""Lines of tables, and the HTML that pages repeat: exactly what it was told, and nothing that runs."""

import html
import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from features import selectors
from features.markup import label_html, rows_html
from features.models import Activity, Feature, Label, Run
from tests import factories
from tests.factories import DEAD, HOSTILE, HOSTILES, NAMED, OVERRIDE, TIED, World


def loose(pk: int) -> Feature:
    """A feature as somebody else found it: without SAE and label."""
    return Feature.objects.get(pk=pk)


def test_features_of_several_saes_in_their_order(world: World) -> None:
    other = factories.make_sae(world.model, "other", d_sae=9)
    unread = factories.make_features(factories.make_sae(world.model, "unread", d_sae=3))
    theirs = factories.make_features(other)
    factories.fill_run(factories.make_run(other, world.corpus), theirs, 6)
    newest = factories.make_run(other, world.corpus)
    factories.fill_run(newest, theirs, 12)
    partly = factories.make_run(world.sae, world.corpus)
    factories.fill_run(partly, list(world.sae.features.filter(index__lt=8).order_by("index")), 8)
    ours = {feature.index: feature for feature in world.sae.features.all()}
    wanted = [theirs[5], ours[NAMED], unread[2], ours[20], theirs[DEAD], ours[TIED]]
    with CaptureQueriesContext(connection) as queries:
        rows = selectors.lines([loose(feature.pk) for feature in wanted])
        page = rows_html(rows, with_sae=True, selectable=True)
    assert len(queries) <= len(wanted) + 4
    assert [row.feature.pk for row in rows] == [feature.pk for feature in wanted]
    assert [row.run for row in rows] == [newest, partly, None, partly, newest, partly]
    assert [row.activity and row.activity.index for row in rows] == [5, NAMED, None, None, DEAD, TIED]
    assert [bool(row.passage) for row in rows] == [True, True, False, False, False, True]
    assert re.findall(r'<tr data-feature="([^"]+)"( class="dead")?>', page) == [
        ("other/5", ""),
        (f"tiny-lm-l6/{NAMED}", ""),
        ("unread/2", ""),
        ("tiny-lm-l6/20", ""),
        (f"other/{DEAD}", ' class="dead"'),
        (f"tiny-lm-l6/{TIED}", ""),
    ]
    assert "Nothing has been read through this SAE yet." in page
    assert f"Run {partly.pk} did not read this feature." in page
    assert "cities, by Ada" in page


def test_a_line_is_what_the_table_shows(world: World) -> None:
    run = Run.objects.select_related("sae__model").get()
    activities = list(Activity.objects.filter(run=run).for_table().order_by("index"))
    features = [activity.feature for activity in activities]
    assert rows_html(selectors.lines(features)) == rows_html(selectors.rows(run, activities))
    assert selectors.lines([]) == []


def test_one_query_for_the_contexts_of_all(world: World) -> None:
    run = Run.objects.select_related("sae__model").get()
    activities = list(Activity.objects.filter(run=run).for_table())
    selectors.rows(run, activities[:1])
    with CaptureQueriesContext(connection) as queries:
        selectors.rows(run, activities)
    assert len(queries) == 1


def test_hostile_text_stays_text(world: World) -> None:
    bad = f"{HOSTILE}\"'&{OVERRIDE}"
    type(world.model).objects.update(name=bad)
    type(world.sae).objects.update(name=bad)
    Label.objects.filter(feature__index=HOSTILES).update(rule=bad[:20])
    page = rows_html(selectors.lines(list(world.sae.features.order_by("index"))), '?run="><b>', with_sae=True)
    assert HOSTILE not in page
    assert OVERRIDE not in page
    assert '"><b>' not in page
    assert html.escape(HOSTILE) in page


@pytest.mark.parametrize(
    ("given", "badge"),
    [
        ({"source": "model", "explainer": "<i>m</i>"}, '<span class="badge model" title="Written by a model, not by'),
        ({"source": "model", "explainer": "<i>m</i>", "method": 'max"act'}, "not by a person: max&quot;act."),
        ({"source": "model"}, ">a model</span>"),
        ({"source": "person", "author_name": "<b>"}, '<span class="badge person">&lt;b&gt;</span>'),
        ({"source": "person"}, '<span class="badge person">a person</span>'),
    ],
)
def test_a_label_says_who_or_what_wrote_it(given: dict[str, str], badge: str) -> None:
    shown = label_html(
        Label(text="a <u>label</u>", **(dict.fromkeys(("author_name", "explainer", "method"), "") | given))
    )
    assert f'<span class="label {given["source"]}"><bdi>a &lt;u&gt;label&lt;/u&gt;</bdi></span>' in shown
    assert badge in shown
    assert "<i>" not in shown


def test_no_label_is_a_dash() -> None:
    assert label_html(None) == '<span class="quiet">\N{EN DASH}</span>'
