"""Every page, seeded: both themes, wide and narrow, what axe says of it, and that it reads without JavaScript."""

from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.looking import THEMES, axe, overflow, shot, show, watched
from tests.browser.site import Site

pytestmark = pytest.mark.browser

WIDTHS = (1440, 390)


@dataclass(frozen=True)
class Looks:
    """``heading``: its h1. ``holds``: what a reader comes for, with JavaScript or without. ``drawn``: by a script."""

    heading: str
    holds: str
    drawn: str = ""


PAGES = {
    "home": Looks("Sparse autoencoders", "table:has-text('tiny-lm-l8-imported')"),
    "sae": Looks("tiny-lm-l6", "table:has-text('density')", drawn=".js-plotly-plot >> nth=1"),
    "features": Looks("Features", "[data-feature='tiny-lm-l6/20']:has-text('months and seasons')"),
    "filtered": Looks("Features", "[data-feature='tiny-lm-l6/23'] mark"),
    "feature": Looks("months and seasons", ".example mark"),
    "dead feature": Looks("no label yet", "main:has-text('never fired')"),
    "imported feature": Looks("7", ".example mark"),
    "models": Looks("Models", "a:has-text('tiny-lm')"),
    "model": Looks("tiny-lm", "a[href='/saes/tiny-lm-l3/']"),
    "run": Looks("Run 1", "main:has-text('Explained variance')"),
    "imported run": Looks("Run", "main:has-text('tiny-lm-l8-imported')"),
    "not valid": Looks("Run", "main:has-text('explains less than the mean')"),
    "search": Looks("Search", "main input[name=q]"),
    "searched": Looks("Search", "[data-feature='tiny-lm-l6/23'] mark"),
    "nothing found": Looks("Search", "main:has-text('No feature was found')"),
    "collections": Looks("Collections", "a:has-text('Time words')"),
    "collection": Looks("Time words", "[data-feature='tiny-lm-l8-imported/5']"),
    "private collection": Looks("Mine alone", "[data-feature='tiny-lm-l6/3']"),
    "map": Looks("Map", "a:has-text('months and what they bring')", drawn="#map canvas"),
    "no map": Looks("Map", "button:has-text('Make a map')"),
    "compare": Looks("Compare", "main:has-text('winter, by Ben')"),
    "compare_runs": Looks("Compare", "main:has-text('Explained variance')"),
    "compare_saes": Looks("Compare", "main:has-text('tiny-lm-l3')"),
    "jobs": Looks("Jobs", "main:has-text('the disk is full')"),
    "running job": Looks("Job", "main:has-text('shard 29 of 30 is done')"),
    "failed job": Looks("Job", "main:has-text('No space left on device')"),
    "job_new": Looks("New extraction", "select[name=sae]"),
    "workers": Looks("Workers", "main:has-text('interactive-2@lab')"),
    "trial": Looks("20", "main mark"),
    "imports": Looks("Import", "a:has-text('no-features.zip')"),
    "import": Looks("tiny-lm/8-res", "main:has-text('41 is not below the width')"),
    "checkpoints": Looks("Add an SAE", "a:has-text('l3-wide')"),
    "added SAE": Looks("l3-wide", "main:has-text('correct one of them')"),
    "shared feature": Looks("Feature 20 of tiny-lm-l6", ".example mark"),
    "shared comparison": Looks("tiny-lm-l6/20 beside tiny-lm-l6/23", "main:has-text('winter, by Ben')"),
    "shared run": Looks("Quality of run 1", "main:has-text('Explained variance')"),
    "shared collection": Looks("Collection Time words", "td:has-text('months and seasons')"),
    "shared text": Looks("A text through feature", "main mark"),
    "locked": Looks("Evidence with a password", "input[type=password]"),
    "gone": Looks("This link opens nothing", "main p"),
    "snapshots": Looks("Evidence", "a:has-text('Quality of a run at another lab')"),
    "snapshot": Looks("Feature 20 of tiny-lm-l6", "dd:has-text('what is below is as it was before')"),
    "received": Looks("Quality of a run at another lab", ".foreign:has-text('https://lab.example.org/')"),
    "links": Looks("Links", "tr:has-text('taken back')"),
    "link": Looks("Link 1", "tr:has-text('Slackbot')"),
    "receive": Looks("Open an archive", "input[type=file]"),
    "keys": Looks("API keys", "main:has-text('notebook')"),
    "not found": Looks("There is nothing at this address", "main a"),
}


def check_reads(page: Page, looks: Looks) -> None:
    expect(page.locator("h1")).to_have_count(1)
    expect(page.locator("h1")).to_contain_text(looks.heading)
    expect(page.locator(looks.holds).first).to_be_visible()


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_in_both_themes_and_at_any_width(page: Page, site: Site, name: str):
    page.goto(site.url(name))
    check_reads(page, PAGES[name])
    if PAGES[name].drawn:
        expect(page.locator(PAGES[name].drawn)).to_be_visible(timeout=20_000)
    faults = []
    for theme in THEMES:
        for width in WIDTHS:
            show(page, theme, width)
            shot(page, name, theme, width)
            if (theme == "dark") == (width == WIDTHS[0]):  # each theme and each width once: axe takes seconds
                faults += [f"{theme}, {width} px: {fault}" for fault in axe(page)]
    assert faults == []
    for width in (*WIDTHS, 320):
        show(page, "light", width)
        assert overflow(page) <= 0, f"{overflow(page)} px wider than {width} px"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_reads_without_javascript(plain: Page, site: Site, name: str):
    plain.goto(site.url(name))
    check_reads(plain, PAGES[name])


def test_the_way_in(browser: Browser, site: Site):
    """For whoever is not signed in."""
    with browser.new_context() as stranger:
        page = stranger.new_page()
        with watched(page):
            page.goto(site.url("features"))
            expect(page.locator("h1")).to_have_count(1)
            for theme, width in zip(THEMES, (1440, 320), strict=True):
                show(page, theme, width)
                shot(page, "login", theme, width)
                assert axe(page) == []
                assert overflow(page) <= 0
            page.get_by_label("Name").fill("ada")
            page.get_by_label("Password").fill("a long enough password")
            page.keyboard.press("Enter")
            expect(page.locator("h1")).to_have_text("Features")


def test_the_list_of_pages_is_whole(site: Site):
    assert set(PAGES) | {"login"} == set(site.paths)
