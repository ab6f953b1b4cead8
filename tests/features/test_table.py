"""The table of features: paging, filters, search, hostile text."""

import html
from typing import Any
from urllib.parse import parse_qs

import pytest
from django.test import Client

from features.listing import ORDERS
from features.models import Activity, Collection, CollectionItem, Run, Star, Tag, Tagging
from features.views import browse
from tests import factories
from tests.factories import DEAD, DENSE, HOSTILES, NAMED, TIED, TIED_TOO, World

TABLE = "/saes/tiny-lm-l6/features/"


def indexes(answer: Any) -> list[int]:
    return [row.activity.index for row in answer.context["rows"]]


@pytest.mark.parametrize("order", ORDERS)
def test_following_next_shows_every_feature_once_and_previous_leads_back(
    order: str, world: World, client_in: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browse, "ROWS", 5)
    pages, query = [], f"order={order}"
    while query:
        answer = client_in.get(f"{TABLE}?{query}")
        pages.append(indexes(answer))
        query, back = answer.context["next"], answer.context["previous"]
    column, descends = ORDERS[order]
    rows = sorted(Activity.objects.all(), key=lambda a: a.index, reverse=order == "-index")
    rows.sort(key=lambda a: float(getattr(a, column)), reverse=descends)
    assert [index for page in pages for index in page] == [a.index for a in rows]
    for expected in reversed(pages[:-1]):
        answer = client_in.get(f"{TABLE}?{back}")
        assert indexes(answer) == expected
        back = answer.context["previous"]
    assert not back


def test_features_that_tie_stand_by_index(world: World, client_in: Client) -> None:
    shown = indexes(client_in.get(f"{TABLE}?order=-density"))
    assert shown.index(TIED_TOO) == shown.index(TIED) + 1


def test_links_of_a_page_keep_its_filters(world: World, client_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "ROWS", 3)
    answer = client_in.get(f"{TABLE}?state=alive&density_max=90&order=-max&run={world.run.pk}")
    kept = parse_qs(answer.context["next"])
    assert kept.pop("after")
    assert kept == {"state": ["alive"], "density_max": ["90"], "order": ["-max"], "run": [str(world.run.pk)]}


def test_filters(world: World, client_in: Client) -> None:
    assert indexes(client_in.get(f"{TABLE}?state=dead")) == [DEAD]
    assert DEAD not in indexes(client_in.get(f"{TABLE}?state=alive"))
    assert DENSE in indexes(client_in.get(f"{TABLE}?state=dense"))
    low, high = 2.0, 10.0
    wanted = [a.index for a in Activity.objects.order_by("index") if low / 100 <= a.density <= high / 100]
    assert indexes(client_in.get(f"{TABLE}?density_min={low}&density_max={high}")) == wanted
    assert 0 < len(wanted) < 24


def test_search_finds_labels_numbers_and_example_text(world: World, client_in: Client) -> None:
    assert indexes(client_in.get(f"{TABLE}?q=by+Ada")) == [NAMED]
    assert 13 in indexes(client_in.get(f"{TABLE}?q=13"))
    assert HOSTILES in indexes(client_in.get(f"{TABLE}?q=alert(1)"))
    nothing = client_in.get(f"{TABLE}?q=no+such+words+anywhere")
    assert "No feature of this run matches" in nothing.content.decode()


def test_what_is_wrong_is_said_and_the_rest_holds(world: World, client_in: Client) -> None:
    answer = client_in.get(f"{TABLE}?density_min=abc&state=dead&order=sideways")
    page = answer.content.decode()
    assert "Enter a number" in page
    assert 'value="abc"' in page
    assert indexes(answer) == [DEAD]
    crossed = client_in.get(f"{TABLE}?density_min=50&density_max=2").content.decode()
    assert "Must not be below 50 %" in crossed


@pytest.mark.parametrize("cursor", ["after=nonsense", "before=%00", "after=bmFu", "q=%00"])
def test_a_damaged_address_shows_the_first_page(cursor: str, world: World, client_in: Client) -> None:
    answer = client_in.get(f"{TABLE}?{cursor}")
    assert answer.status_code == 200
    assert indexes(answer)[0] == 0


def test_links_leave_out_what_was_wrong(world: World, client_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(browse, "ROWS", 3)
    answer = client_in.get(f"{TABLE}?q={'x' * 10_000}&state=alive&density_min=abc&unknown=1")
    assert answer.content.decode().count("x" * 10_000) == 1  # in the box, where it can be mended
    kept = parse_qs(answer.context["next"])
    assert kept.pop("after")
    assert kept == {"state": ["alive"], "order": ["index"]}


def test_a_table_of_all_features_is_not_called_filtered(world: World, client_in: Client) -> None:
    for query in ("", "?q=&state=all&density_min=&density_max=", "?q=+", "?state=asleep", "?order=-max"):
        assert "show all" not in client_in.get(TABLE + query).content.decode()
    assert "show all" in client_in.get(f"{TABLE}?state=alive").content.decode()


def test_htmx_gets_the_table_alone(world: World, client_in: Client) -> None:
    part = client_in.get(TABLE, headers={"HX-Request": "true"}).content.decode()
    assert part.lstrip().startswith('<div id="table"')
    assert "<html" not in part
    whole = client_in.get(TABLE)
    assert part.strip() in whole.content.decode()
    assert "HX-Request" in whole["Vary"]


def test_hostile_tokens_and_labels_are_text(world: World, client_in: Client) -> None:
    page = client_in.get(TABLE).content.decode()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "\u202e" not in page
    assert "U+202E" in page


def test_a_rules_label_never_looks_like_a_persons(world: World, client_in: Client) -> None:
    page = client_in.get(TABLE).content.decode()
    rule = page[page.index("“ river”") :]
    assert "rule: token · 9/11 held-out" in rule[:400]
    person = page[page.index("cities, by Ada") :]
    assert "rule:" not in person[:120]
    assert '<span class="badge person">ada</span>' in person[:120]


def test_queries_do_not_grow_with_rows(
    world: World, client_in: Client, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    client_in.get(f"{TABLE}?state=dead")
    for rows in (2, 50):
        monkeypatch.setattr(browse, "ROWS", rows)
        with django_assert_num_queries(5):  # session, user, run with its SAE, activities, contexts
            client_in.get(TABLE)
        with django_assert_num_queries(4):  # the contexts have been seen
            client_in.get(TABLE)


def test_a_run_that_is_imported_anew_shows_its_new_rows(world: World, client_in: Client) -> None:
    before = client_in.get(TABLE).content.decode()
    for number in world.run.contexts.values_list("number", flat=True):
        factories.set_text(world.run, number, "zebras, for once, " * 9)
    assert client_in.get(TABLE).content.decode().count("zebras") == 0
    Run.objects.update(revision=1)
    after = client_in.get(TABLE).content.decode()
    assert before.count("zebras") == 0
    assert after.count("zebras") > 5


EVERYTHING = "state=alive&density_max=90&maximum_max=1e9&label=person&ids=1,2,3,7&order=-mean"


@pytest.mark.parametrize(
    ("query", "n"),
    [
        (EVERYTHING, 6),
        (f"{EVERYTHING}&starred=1&tag=cities&collection=mine", 6),
        (f"{EVERYTHING}&starred=1&q=cities", 7),
    ],
)
def test_any_filters_cost_a_few_queries(
    query: str, n: int, world: World, client_in: Client, django_assert_max_num_queries: Any
) -> None:
    client_in.get(f"{TABLE}?label=person")  # labels are kept from now on
    with django_assert_max_num_queries(n):
        assert client_in.get(f"{TABLE}?{query}").status_code == 200


def test_rare_filters_stand_open_when_they_are_in_use(world: World, client_in: Client) -> None:
    assert '<details class="rare">' in client_in.get(TABLE).content.decode()
    answer = client_in.get(f"{TABLE}?label=rule&ids=5,7,x&maximum_min=0")
    page = answer.content.decode()
    assert '<details class="rare" open>' in page
    assert 'value="5,7,x"' in page
    assert "Must be numbers with commas between them: “x” is none." in html.unescape(page)
    assert indexes(answer) == [HOSTILES, TIED]  # what was wrong is left out, the rest holds
    assert parse_qs(answer.context["columns"]["max"]["query"]) == {
        "label": ["rule"],
        "maximum_min": ["0"],
        "order": ["-max"],
    }


def test_stars_tags_and_collections_narrow_the_table(world: World, client_in: Client) -> None:
    features = {feature.index: feature for feature in world.sae.features.all()}
    other = factories.make_user("grace")
    for index, user in ((8, world.user), (7, world.user), (9, other)):
        Star.objects.create(feature=features[index], user=user)
    tag = Tag.objects.create(name="cities")
    Tagging.objects.create(tag=tag, feature=features[7])
    mine, hers = (Collection.objects.create(slug=u.username, name="x", owner=u) for u in (world.user, other))
    for collection in (mine, hers):
        CollectionItem.objects.create(collection=collection, feature=features[NAMED], position=0)
    found = {q: indexes(client_in.get(f"{TABLE}?{q}")) for q in ("starred=1", "tag=cities", "tag=none")}
    assert found == {"starred=1": [7, 8], "tag=cities": [7], "tag=none": []}
    assert indexes(client_in.get(f"{TABLE}?collection=ada")) == [NAMED]
    assert indexes(client_in.get(f"{TABLE}?collection=grace")) == []  # another person's, not shared
    assert indexes(client_in.get(f"{TABLE}?starred=1&label=none")) == [8]


def test_an_outsider_is_sent_to_sign_in(world: World, anonymous: Client) -> None:
    answer = anonymous.get(f"{TABLE}?starred=1")
    assert answer.status_code == 302
    assert answer["Location"].startswith("/login/")


def test_a_row_names_its_feature_and_can_be_ticked(world: World, client_in: Client) -> None:
    page = client_in.get(TABLE).content.decode()
    assert f'<tr data-feature="tiny-lm-l6/{NAMED}">' in page
    assert page.count('form="selection" name="feature"') == 24
    assert f'<tr data-feature="tiny-lm-l6/{DEAD}" class="dead">' in page
