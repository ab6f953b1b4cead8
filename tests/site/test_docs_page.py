"""The description of the API works in a browser, under the site's own content security policy."""

import signal
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.conftest import CHROMIUM, QUIET
from tests.site.launched import Launch

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def test_the_docs_list_the_operations_and_run_them_for_whoever_is_signed_in(tmp_path: Path) -> None:
    launch = Launch(tmp_path, "--port", "0")
    try:
        port, path = launch.address()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
            check(browser.new_page(), f"http://127.0.0.1:{port}", path)
    finally:
        launch.end(signal.SIGTERM)


def check(page: Page, site: str, way_in: str) -> None:
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.on("request", lambda sent: None if sent.url.startswith((site, "data:")) else faults.append(sent.url))
    page.goto(f"{site}{way_in}")
    page.goto(f"{site}/api/v1/docs")
    paths = page.request.get(f"{site}/api/v1/openapi.json").json()["paths"]
    assert len(paths) > 5
    expect(page.locator(".opblock")).to_have_count(sum(len(operations) for operations in paths.values()))
    page.locator(".opblock").first.click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute").click()
    expect(page.locator(".live-responses-table .response .response-col_status")).to_have_text("200")
    assert faults == []
