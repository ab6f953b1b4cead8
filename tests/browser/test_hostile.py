"""Labels, tokens, and whatever people type are shown as they are written: nothing in them becomes a part of a page."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest
from playwright.sync_api import Dialog, Page, expect

from tests.browser.site import Site
from tests.browser.test_journeys import SAE, feature, row, toast
from tests.factories import HOSTILE, HOSTILES

pytestmark = pytest.mark.browser

OWN = 110  # the first of the features that are changed here
TYPED = '<img src=x onerror="alert(2)">'
LABEL = f"saes/{SAE}/features/{HOSTILES}/"
SHOWN = {
    "the feature": LABEL,
    "its labels": f"{LABEL}people/",
    "the table": f"saes/{SAE}/features/?ids={HOSTILES}",
    "a filter": f"saes/{SAE}/features/?q=alert",
    "search by label": "search/?mode=label&q=alert",
    "search by text": "search/?mode=text&q=alert",
    "compared": f"compare/?a={SAE}/{HOSTILES}&b={SAE}/20",
    "a context": f"saes/{SAE}/features/{HOSTILES}/contexts/0/",
}
FOREIGN = """() => [...document.querySelectorAll("script, img, b")]
    .filter((e) => /alert|1912/.test(e.outerHTML)).map((e) => e.outerHTML)"""


@pytest.fixture
def wary(page: Page) -> Iterator[Page]:
    """No dialog opens in this page."""
    said: list[str] = []

    def note(dialog: Dialog) -> None:
        said.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", note)
    yield page
    assert said == []


@pytest.mark.parametrize("where", SHOWN)
def test_a_script_in_a_label_or_a_token_is_text(wary: Page, home: str, where: str):
    wary.goto(home + SHOWN[where])
    expect(wary.locator("body")).to_contain_text(HOSTILE)
    assert wary.evaluate(FOREIGN) == []


@pytest.mark.parametrize("path", ["search/?q=", "compare/?b=1&a=", f"saes/{SAE}/features/?q=", "go/?q="])
def test_a_script_in_an_address_is_text(wary: Page, home: str, path: str):
    wary.goto(f"{home}{path}{quote(HOSTILE)}")
    expect(wary.get_by_role("heading", level=1)).to_be_visible()
    assert wary.evaluate(FOREIGN) == []


def test_a_collection_and_its_map(wary: Page, site: Site):
    wary.goto(site.url("private collection"))
    expect(row(wary, HOSTILES)).to_contain_text(HOSTILE)
    wary.goto(site.url("map"))
    wary.get_by_role("searchbox", name="Show the features").fill(str(HOSTILES))
    wary.keyboard.press("Enter")
    expect(row(wary, HOSTILES)).to_contain_text(HOSTILE)
    label = wary.evaluate(
        f"fetch(document.querySelector('#map').dataset.label + '?index={HOSTILES}').then(a => a.text())"
    )
    assert "&lt;script&gt;" in label
    assert "<script" not in label
    assert wary.evaluate(FOREIGN) == []


def test_what_is_typed_is_text(wary: Page, home: str):
    """A label, its explanation, the name of a collection, and a comment."""
    wary.goto(feature(home, OWN))
    wary.locator("#label-open").click()
    wary.get_by_role("textbox", name="Label", exact=True).fill(TYPED)
    wary.get_by_role("textbox", name="Explanation").fill(f"**{TYPED}** [{TYPED}](javascript:alert(3))")
    wary.get_by_role("button", name="Save").click()
    expect(wary.get_by_role("heading", level=1)).to_contain_text(TYPED)
    wary.locator("#collect-open").click()
    wary.get_by_label("Collection", exact=True).fill(TYPED)
    wary.get_by_role("button", name="Put in").click()
    expect(wary.get_by_role("list", name="Tags and collections")).to_contain_text(TYPED)
    toast(wary, TYPED)
    wary.get_by_role("textbox", name="Say something").fill(TYPED)
    wary.get_by_role("button", name="Comment").click()
    expect(wary.locator(".comments")).to_contain_text(TYPED)
    assert wary.evaluate(FOREIGN) == []
    assert wary.locator("a[href^='javascript']").count() == 0


def test_a_row_that_is_labelled_in_place(wary: Page, home: str):
    wary.goto(f"{home}saes/{SAE}/features/?ids={OWN + 1}")
    row(wary, OWN + 1).get_by_role("checkbox").check()
    wary.get_by_label("Label", exact=True).last.fill(TYPED)
    wary.keyboard.press("Enter")
    expect(row(wary, OWN + 1)).to_contain_text(TYPED)
    assert wary.evaluate(FOREIGN) == []
