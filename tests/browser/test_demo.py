"""The demo as a person meets it: from the address in the terminal to an example that lights up."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import NARROW, ROOT, WIDE, free_port, home_of, sign_in

pytestmark = [pytest.mark.browser, pytest.mark.slow]

# `make screenshots` keeps the pictures of the README; any other run only checks that they can be taken.
KEPT = ROOT / "docs" if os.environ.get("KEEP_SCREENSHOTS") else None


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The one-time address that `manage.py demo` prints: of a demo on fewer tokens, or of the one in DEMO_VAR."""
    kept = os.environ.get("DEMO_VAR")
    folder = kept or tempfile.mkdtemp(prefix="fs-")
    command = [sys.executable, "-u", "manage.py", "demo", "--port", str(free_port())]
    command += [] if kept else ["--tokens", "40000"]
    # Not the test's own settings and database: this is the site as a person starts it.
    ours = {"FEATURESCOPE_VAR", "DATABASE_URL", "DJANGO_SETTINGS_MODULE"}
    environment = {name: value for name, value in os.environ.items() if name not in ours}
    site = subprocess.Popen(
        command, cwd=ROOT, env=environment | {"FEATURESCOPE_VAR": folder}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield printed_address(site)
    finally:
        site.terminate()
        site.wait(timeout=60)
        if not kept:
            shutil.rmtree(folder, ignore_errors=True)


def printed_address(site: subprocess.Popen[str]) -> str:
    lines = []
    assert site.stdout is not None
    for line in site.stdout:
        lines.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+/login/\S+", line):
            return found[0]
    raise AssertionError("the demo ended without an address:\n" + "".join(lines[-40:]))


@pytest.fixture(scope="module")
def cookies(browser: Browser, address: str) -> list:
    return sign_in(browser, address)


@pytest.fixture(scope="module")
def home(address: str) -> str:
    return home_of(address)


def open_sae(page: Page, home: str) -> None:
    page.goto(home)
    page.locator("main a[href^='/saes/']:not([href='/saes/add/'])").first.click()
    expect(page).to_have_url(f"{home}saes/{page.url.rstrip('/').split('/')[4]}/")


def open_feature(page: Page, home: str) -> None:
    """By clicks alone: home, the SAE, its features by density, the first of them."""
    open_sae(page, home)
    page.locator("main a[href*='/features/']").filter(has_text="eatures").first.click()
    page.locator("tbody th a").first.click()


def test_clicks_lead_from_home_to_a_highlighted_example(page: Page, home: str):
    open_feature(page, home)
    peak = page.locator(".example mark.peak").first
    expect(peak).to_be_visible()
    assert peak.inner_text().strip() or peak.inner_text()
    colour = peak.evaluate("e => getComputedStyle(e).backgroundColor")
    assert colour not in {"rgba(0, 0, 0, 0)", "transparent"}


def test_keys_go_to_the_features_beside_it(page: Page, home: str):
    open_feature(page, home)
    page.goto(page.url.split("/features/")[0] + "/features/100/")
    page.keyboard.press("j")
    expect(page).to_have_url(page.url.split("/features/")[0] + "/features/101/")
    page.keyboard.press("k")
    expect(page).to_have_url(page.url.split("/features/")[0] + "/features/100/")


def test_an_example_unfolds_to_its_full_context(page: Page, home: str):
    open_feature(page, home)
    example = page.locator(".example").first
    before = len(example.locator(".passage").inner_text())
    example.get_by_text("Full context").click()
    expect(example.get_by_text("Fold")).to_be_visible()
    assert len(example.locator(".passage").inner_text()) >= before


def test_the_plots_of_an_sae_are_drawn_and_a_point_opens_its_feature(page: Page, home: str):
    open_sae(page, home)
    expect(page.locator(".js-plotly-plot")).to_have_count(2, timeout=20_000)
    plot = page.locator(".js-plotly-plot").nth(1)
    plot.scroll_into_view_if_needed()
    point = plot.locator(".points path").first
    point.wait_for(state="attached", timeout=20_000)
    box = point.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)  # the plot marks what is under the mouse
    page.wait_for_selector(".hoverlayer .hovertext")
    page.mouse.down()
    page.mouse.up()
    page.wait_for_url("**/features/*/")
    expect(page.locator("h1 .index")).to_be_visible()


def test_search_narrows_the_table(page: Page, home: str):
    open_sae(page, home)
    page.locator("main a[href*='/features/']").filter(has_text="eatures").first.click()
    page.locator("main input[name=q]").fill("the")
    page.locator("main input[name=q]").press("Enter")
    page.wait_for_url("**q=the**")
    expect(page.locator("tbody tr").first).to_be_visible()


def test_a_used_address_says_so(browser: Browser, cookies: list, address: str):
    with browser.new_context() as stranger:
        page = stranger.new_page()
        page.goto(address)
        expect(page.locator("body")).to_contain_text("make demo")
        page.goto(address.split("/login/", maxsplit=1)[0] + "/")
        assert "/login/" in page.url


def test_an_extraction_started_in_the_browser_shows_its_progress_and_ends(page: Page, home: str):
    page.goto(f"{home}jobs/new/")
    page.locator("select[name=corpus]").select_option(index=1)
    page.locator("[name=tokens]").fill("4096")
    page.locator("main form button[type=submit]").last.click()
    page.wait_for_url(re.compile(r"/jobs/\d+/$"))
    expect(page.locator("main")).to_contain_text("done", timeout=120_000)


def go(page: Page, home: str, name: str) -> None:
    if name in {"sae", "features"}:
        open_sae(page, home)
        if name == "features":
            page.goto(page.url + "features/")
        else:
            expect(page.locator(".js-plotly-plot")).to_have_count(2, timeout=20_000)
    elif name == "model":
        page.goto(home)
        page.locator("main h2 a[href^='/models/']").first.click()
        expect(page.locator("table.sites .at.good").first).to_be_visible()
    elif name == "feature":
        open_feature(page, home)
        if KEPT:  # one that reads well in the README
            page.goto(page.url.split("/features/", maxsplit=1)[0] + "/features/1163/")
    else:
        page.goto(
            home + {"home": "", "jobs": "jobs/", "new": "jobs/new/", "keys": "account/keys/", "models": "models/"}[name]
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["home", "models", "model", "sae", "features", "feature", "jobs", "new", "keys"])
def test_pages_are_accessible_and_fit_a_narrow_screen(
    page: Page, home: str, tmp_path: Path, scheme: Literal["light", "dark"], name: str
):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    go(page, home, name)
    folder = KEPT if KEPT and name in {"sae", "feature"} else tmp_path
    picture = folder / f"{name}-{scheme}.png"
    page.screenshot(path=picture)
    assert picture.stat().st_size > 10_000
    violations = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in violations] == []
    for size in (NARROW, WIDE):
        page.set_viewport_size(size)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{name} is {overflow} px wider than {size['width']} px"
