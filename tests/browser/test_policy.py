"""The content security policy, in a browser: ``watched`` fails a test for whatever a page does against it.

The pages' own tests load every page so; here is what they do not touch.
"""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.looking import watched
from tests.browser.site import Site

pytestmark = pytest.mark.browser

AGAINST = """document.body.insertAdjacentHTML("beforeend", "<p style='color: red'>red</p>")"""


def test_what_the_policy_forbids_is_seen(browser: Browser, site: Site):
    with browser.new_context() as stranger:
        page = stranger.new_page()
        with pytest.raises(AssertionError, match="Content Security Policy"), watched(page):
            page.goto(site.url("login"))
            page.evaluate(AGAINST)
            page.wait_for_timeout(200)
        assert page.locator("p", has_text="red").evaluate("(e) => getComputedStyle(e).color") != "rgb(255, 0, 0)"


@pytest.mark.parametrize(("name", "plots"), [("sae", 2), ("compare_runs", 1)])
def test_plots_work_without_styles_of_their_own(page: Page, site: Site, name: str, plots: int):
    page.goto(site.url(name))
    expect(page.locator(".js-plotly-plot")).to_have_count(plots)
    for plot in page.locator(".js-plotly-plot").all():
        area, buttons = plot.locator(".nsewdrag"), plot.locator(".modebar-group").first
        plot.scroll_into_view_if_needed()
        expect(buttons).to_have_css("opacity", "0")
        box = area.bounding_box()
        assert box
        page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
        expect(buttons).to_have_css("opacity", "1")
        corner = plot.bounding_box()
        bar = plot.locator(".modebar").bounding_box()
        assert corner
        assert bar
        assert bar["x"] > corner["x"] + corner["width"] / 2, "the bar does not stand at the right"
        assert bar["height"] < 40, "the bar's buttons do not stand in one line"
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=4)
        page.mouse.up()
        expect(page.locator(".plotly-notifier")).to_contain_text("Double-click")
        plot.locator("[data-title^='Reset']").click()
        with page.expect_download() as given:
            plot.locator("[data-title^='Download']").click()
        assert given.value.suggested_filename.endswith(".png")
    page.locator("#theme").click()
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    assert page.locator("style").count() == 0
    assert page.locator("[data-title^='Share']").count() == 0, "a chart could be sent to another host"


def test_the_api_s_description_works(page: Page, site: Site):
    page.goto(f"{site.address}/api/v1/docs")
    operations = page.locator(".opblock-summary-control")
    expect(operations.first).to_be_visible()
    for operation in operations.all():
        operation.click()
    expect(page.locator(".opblock-body")).to_have_count(operations.count())
    page.get_by_role("button", name="Authorize").click()
    expect(page.locator(".modal-ux")).to_be_visible()
