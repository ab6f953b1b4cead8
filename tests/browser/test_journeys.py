"""What people come for, from the first page to the thing done: with the mouse, and again with the keyboard alone."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import Locator, Page, Route, expect

from tests import factories
from tests.browser.hands import Hands, Keyboard, Mouse
from tests.browser.seed.evidence import LABELLED
from tests.browser.site import Site

pytestmark = pytest.mark.browser

SAE = "tiny-lm-l6"
OWN = {Mouse: 60, Keyboard: 80}
"""The first of the features that a way to work changes: the site is the same for both."""


@pytest.fixture
def own(hands: Hands) -> int:
    return OWN[type(hands)]


@pytest.fixture
def no_worker(site: Site) -> Iterator[None]:
    """Nobody has heard of any worker for days."""
    with closing(sqlite3.connect(site.var / "featurescope.sqlite3", timeout=30)) as database, database:
        database.execute("CREATE TABLE kept AS SELECT id, heartbeat_at FROM jobs_worker")
        database.execute("UPDATE jobs_worker SET heartbeat_at = '2020-01-01 00:00:00'")
    yield
    with closing(sqlite3.connect(site.var / "featurescope.sqlite3", timeout=30)) as database, database:
        was = "SELECT heartbeat_at FROM kept WHERE kept.id = jobs_worker.id"
        database.execute(f"UPDATE jobs_worker SET heartbeat_at = ({was})")  # noqa: S608
        database.execute("DROP TABLE kept")


def feature(home: str, index: int) -> str:
    return f"{home}saes/{SAE}/features/{index}/"


def row(page: Page, index: int) -> Locator:
    return page.locator(f"[data-feature='{SAE}/{index}']")


def check_label(page: Page, text: str) -> None:
    expect(page.get_by_role("heading", level=1)).to_contain_text(text)


def goto(page: Page) -> Locator:
    return page.get_by_role("searchbox", name="Go to:")


def toast(page: Page, text: str) -> None:
    expect(page.locator("#toast")).to_contain_text(text)


def label_it(hands: Hands, text: str) -> None:
    page = hands.page
    if isinstance(hands, Mouse):
        page.locator("#label-open").click()
    hands.write(page.get_by_role("textbox", name="Label", exact=True), text, key="l")
    hands.send(page.get_by_role("button", name="Save"))


def test_find_by_label(hands: Hands, home: str):
    page = hands.page
    page.goto(home)
    hands.write(goto(page), "months and seasons", key="g")
    page.keyboard.press("Enter")
    check_label(page, "Search")
    expect(row(page, LABELLED)).to_contain_text("exact label")
    hands.open(row(page, LABELLED))
    check_label(page, "months and seasons")


def test_find_by_example_text(hands: Hands, home: str):
    page = hands.page
    page.goto(home)
    hands.press(page.get_by_role("link", name="Search"))
    check_label(page, "Search")
    hands.choose(page.get_by_role("radio", name="example text"))
    hands.write(page.get_by_role("searchbox", name="Words,"), "king", key="/")
    found = page.locator("tr[data-feature]").first  # while one types
    expect(found.locator(".why mark").first).to_have_text("king")
    hands.open(found)
    expect(page.get_by_role("region", name="Examples")).to_contain_text("king")


def test_find_by_meaning(hands: Hands, home: str):
    """No label holds a word of what is asked for."""
    page = hands.page
    page.goto(f"{home}search/")
    hands.choose(page.get_by_role("radio", name="meaning"))
    hands.write(page.get_by_role("searchbox", name="Words,"), "time of year", key="/")
    page.keyboard.press("Enter")
    first = page.locator("tr[data-feature]").first
    expect(first).to_contain_text("by meaning")
    expect(first).to_contain_text("months and seasons")
    hands.open(first)
    check_label(page, "months and seasons")


def test_find_in_the_table(hands: Hands, home: str):
    page = hands.page
    page.goto(f"{home}saes/{SAE}/features/")
    hands.write(page.get_by_role("searchbox", name="Search labels"), "by ben", key="/")
    expect(page.get_by_role("caption")).to_contain_text("1 of 120 features")
    hands.open(row(page, LABELLED + 3))
    check_label(page, "winter, by Ben")


def test_label_undo_redo(hands: Hands, home: str, own: int):
    page = hands.page
    page.goto(feature(home, own))
    label_it(hands, "names of rivers")
    check_label(page, "names of rivers")
    toast(page, "Labelled.")
    hands.press(page.get_by_role("button", name="Undo").first, key="u")
    check_label(page, "no label yet")
    hands.press(page.get_by_role("button", name="Redo").first, key="u")
    check_label(page, "names of rivers")
    page.reload()
    check_label(page, "names of rivers")


def test_star_tag_and_collect(hands: Hands, home: str, own: int):
    page, name = hands.page, f"Kept by {type(hands).__name__}"
    page.goto(feature(home, own + 1))
    hands.press(page.get_by_role("button", name="Star"), key="s")
    expect(page.get_by_role("button", name="Star")).to_have_attribute("aria-pressed", "true")
    if isinstance(hands, Mouse):
        page.locator("#tag-open").click()
    hands.write(page.get_by_label("Tag", exact=True), "rivers", key="t")
    hands.send(page.get_by_role("button", name="Put on"))
    chips = page.get_by_role("list", name="Tags and collections")
    expect(chips).to_contain_text("rivers")
    if isinstance(hands, Mouse):
        page.locator("#collect-open").click()
    hands.write(page.get_by_label("Collection", exact=True), name, key="c")
    hands.send(page.get_by_role("button", name="Put in"))
    hands.press(chips.get_by_role("link", name=name))
    check_label(page, name)
    expect(row(page, own + 1)).to_be_visible()


def test_label_many_in_the_table(hands: Hands, home: str, own: int):
    page, some = hands.page, [own + 2, own + 3]
    page.goto(f"{home}saes/{SAE}/features/?ids={own + 2},{own + 3},{own + 4}&order=index")
    for index in some:
        hands.tick(row(page, index))
    bar = page.get_by_role("form", name="Selected features")
    expect(bar).to_contain_text("2 selected")
    hands.write(bar.get_by_label("Label"), "verbs of motion", key="l")
    hands.send(bar.get_by_role("button", name="Label"))
    for index in some:
        expect(row(page, index)).to_contain_text("verbs of motion")
    expect(row(page, own + 4)).not_to_contain_text("verbs of motion")
    hands.press(page.get_by_role("button", name="Undo"), key="u")
    for index in some:
        expect(row(page, index)).not_to_contain_text("verbs of motion")


def test_compare_with_another_and_change_a_side(hands: Hands, home: str):
    page = hands.page
    page.goto(feature(home, LABELLED))
    hands.press(page.get_by_role("link", name="Compare", exact=True))
    expect(page.get_by_role("textbox", name="First feature")).to_have_value(f"{SAE}/{LABELLED}")
    hands.write(page.get_by_role("textbox", name="Second feature"), str(LABELLED + 3))
    hands.send(page.get_by_role("button", name="Compare"))
    expect(page.get_by_role("region", name="Second feature")).to_contain_text("winter, by Ben")
    hands.write(page.get_by_role("textbox", name="Second feature"), f"{SAE}/{factories.NAMED}")
    hands.send(page.get_by_role("button", name="Compare"))
    expect(page.get_by_role("region", name="Second feature")).to_contain_text("cities, by Ada")
    expect(page.get_by_role("region", name="First feature")).to_contain_text("months and seasons")
    hands.press(page.get_by_role("link", name="Swap"))
    expect(page.get_by_role("region", name="First feature")).to_contain_text("cities, by Ada")


def test_a_part_of_the_map_becomes_a_collection(hands: Hands, home: str):
    """The mouse draws a lasso around a cluster, the keyboard takes it from the list."""
    page, name = hands.page, f"Of the map, by {type(hands).__name__}"
    page.goto(f"{home}saes/{SAE}/map/")
    expect(page.locator("#map[data-ready]")).to_be_visible()
    if isinstance(hands, Mouse):
        hands.choose(page.get_by_role("radio", name="Lasso"))
        draw_a_lasso(page)
        title = "Inside the lasso"
    else:
        hands.press(page.get_by_role("link", name="places and people"))
        title = "places and people"
    chosen = page.get_by_role("region", name="Chosen features")
    expect(chosen.get_by_role("heading", name=title)).to_contain_text("24 features")
    hands.write(chosen.get_by_label("Collection"), name, key="c")
    hands.send(chosen.get_by_role("button", name="Collect"))
    toast(page, f"Put 24 features into the new collection “{name}”")
    page.goto(f"{home}collections/")
    hands.press(page.get_by_role("link", name=name))
    expect(page.get_by_role("caption")).to_have_text("24 features of tiny-lm-l6")
    indexes = [int(row.split("/")[1]) for row in attributes(page.locator("tr[data-feature]"), "data-feature")]
    assert indexes
    assert {index % 5 for index in indexes} == {1}  # as tests.browser.seed.evidence.draw lays them out


def draw_a_lasso(page: Page) -> None:
    """Around the lower left of the map, from where every other cluster is far."""
    box = page.locator("#map").bounding_box()
    assert box
    corners = [(0.02, 0.6), (0.36, 0.6), (0.36, 0.98), (0.02, 0.98), (0.02, 0.62)]
    places = [(box["x"] + left * box["width"], box["y"] + top * box["height"]) for left, top in corners]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()


def attributes(found: Locator, name: str) -> list[str]:
    return [one.get_attribute(name) or "" for one in found.all()]


def test_a_text_is_kept_until_there_is_a_worker(hands: Hands, home: str, own: int, no_worker: None):
    page, text = hands.page, "the river in winter"
    page.goto(feature(home, own))
    field = page.get_by_role("textbox", name="Text to run through feature")
    hands.write(field, text)
    if isinstance(hands, Mouse):
        page.get_by_role("button", name="Run", exact=True).click()
    else:
        page.keyboard.press("Control+Enter")
    answer = page.locator("#try-answer")
    expect(answer).to_contain_text("Sent to the workers.")
    expect(answer).to_contain_text("No worker is running.", timeout=10_000)
    expect(answer).to_contain_text("make worker QUEUES=interactive")
    expect(field).to_have_value(text)
    hands.press(answer.get_by_role("button", name="Take back"))
    expect(answer).to_be_empty()
    expect(field).to_have_value(text)


def test_what_is_being_typed_stays_when_another_answer_comes(hands: Hands, home: str, own: int):
    """The star's answer, which is slow, replaces the forms around it."""
    page, held = hands.page, list[Route]()

    def hold(route: Route) -> None:
        held.append(route)

    page.goto(feature(home, own + 5))
    page.locator("#people").scroll_into_view_if_needed()
    hands.write(page.get_by_role("textbox", name="Say something"), "Fires on rivers")
    page.route("**/star/", hold)
    hands.press(page.get_by_role("button", name="Star"), key="s")
    if isinstance(hands, Mouse):
        page.locator("#tag-open").click()
    hands.write(page.get_by_label("Tag", exact=True), "ri", key="t")
    held[0].continue_()
    expect(page.get_by_role("button", name="Star")).to_have_attribute("aria-pressed", "true")
    page.keyboard.type("vers")
    hands.send(page.get_by_role("button", name="Put on"))
    expect(page.get_by_role("list", name="Tags and collections")).to_contain_text("rivers")
    expect(page.get_by_role("textbox", name="Say something")).to_have_value("Fires on rivers")
