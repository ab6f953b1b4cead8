"""The same without JavaScript: every step is a link or a form of its own."""

import pytest
from playwright.sync_api import Page, expect

from tests import factories
from tests.browser.site import Site
from tests.browser.test_journeys import SAE, check_label, feature, goto, row

pytestmark = pytest.mark.browser

OWN = 100  # the first of the features that are changed here


def said(page: Page, text: str) -> None:
    expect(page.get_by_role("status").first).to_contain_text(text)


def test_find_by_label(plain: Page, home: str):
    plain.goto(home)
    goto(plain).fill("months and seasons")
    plain.keyboard.press("Enter")
    row(plain, 20).get_by_role("link", name="20").click()
    check_label(plain, "months and seasons")


def test_label_undo_redo(plain: Page, home: str):
    plain.goto(feature(home, OWN))
    plain.locator("#label-open").click()
    plain.get_by_role("textbox", name="Label", exact=True).fill("names of rivers")
    plain.get_by_role("button", name="Save").click()
    said(plain, "Labelled.")
    check_label(plain, "names of rivers")
    plain.get_by_role("button", name="Undo").first.click()
    check_label(plain, "no label yet")
    plain.get_by_role("button", name="Redo").first.click()
    check_label(plain, "names of rivers")


def test_a_label_that_is_refused_stays_in_its_form(plain: Page, home: str):
    plain.goto(feature(home, OWN + 1))
    plain.locator("#label-open").click()
    plain.get_by_role("textbox", name="Label", exact=True).fill("  ")
    plain.get_by_role("textbox", name="Explanation").fill("What I had to say of it.")
    plain.get_by_role("button", name="Save").click()
    expect(plain.get_by_role("alert")).to_be_visible()
    expect(plain.get_by_role("textbox", name="Explanation")).to_have_value("What I had to say of it.")


def test_star_and_collect(plain: Page, home: str):
    plain.goto(feature(home, OWN + 1))
    plain.get_by_role("button", name="Star").click()
    said(plain, "Starred: only you see it.")
    plain.locator("#collect-open").click()
    plain.get_by_label("Collection", exact=True).fill("Kept without a script")
    plain.get_by_role("button", name="Put in").click()
    said(plain, "Put")
    plain.get_by_role("list", name="Tags and collections").get_by_role("link", name="Kept without").click()
    expect(row(plain, OWN + 1)).to_be_visible()


def test_label_many_in_the_table(plain: Page, home: str):
    plain.goto(f"{home}saes/{SAE}/features/?ids={OWN + 2},{OWN + 3},{OWN + 4}")
    for index in (OWN + 2, OWN + 3):
        row(plain, index).get_by_role("checkbox").check()
    bar = plain.get_by_role("form", name="Selected features")
    bar.get_by_label("Label").fill("verbs of motion")
    bar.get_by_role("button", name="Label").click()
    said(plain, "Labelled 2 features.")
    expect(row(plain, OWN + 2)).to_contain_text("verbs of motion")
    expect(row(plain, OWN + 4)).not_to_contain_text("verbs of motion")


def test_compare(plain: Page, home: str):
    plain.goto(feature(home, 20))
    plain.get_by_role("link", name="Compare", exact=True).click()
    plain.get_by_role("textbox", name="Second feature").fill(f"{SAE}/{factories.NAMED}")
    plain.get_by_role("button", name="Compare").click()
    expect(plain.get_by_role("region", name="First feature")).to_contain_text("months and seasons")
    expect(plain.get_by_role("region", name="Second feature")).to_contain_text("cities, by Ada")


def test_a_cluster_of_the_map_becomes_a_collection(plain: Page, site: Site):
    plain.goto(site.url("map"))
    plain.get_by_role("link", name="punctuation").click()
    expect(plain.get_by_role("heading", name="punctuation")).to_contain_text("24 features")
    plain.get_by_label("Collection").fill("Punctuation, without a script")
    plain.get_by_role("button", name="Collect").click()
    said(plain, "Put 24 features into the new collection")


def test_try_a_text(plain: Page, home: str):
    """It waits: this site has no worker that would take it."""
    plain.goto(feature(home, OWN))
    plain.get_by_role("textbox", name="Text to run").fill("the river in winter")
    plain.get_by_role("button", name="Run", exact=True).click()
    check_label(plain, f"A text on feature {OWN}")
    expect(plain.get_by_role("main")).to_contain_text("waiting")
    expect(plain.get_by_role("textbox", name="Text to run")).to_have_value("the river in winter")
    plain.get_by_role("button", name="Take back").click(timeout=10_000)  # the page loads itself again
    check_label(plain, "names of rivers")
