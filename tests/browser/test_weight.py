"""What a page costs whoever opens it: bytes that come over the wire, and things that jump while it loads."""

import re

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.browser.conftest import cookies_of
from tests.browser.looking import JUMPS, jumped, parts
from tests.browser.site import Site
from tests.browser.test_pages import PAGES, WIDTHS

pytestmark = pytest.mark.browser

MODULES = re.compile(r"/static/js/(?!theme-first)")  # which runs before the first paint on purpose
PAINTED = "() => new Promise((done) => new PerformanceObserver(done).observe({ type: 'paint', buffered: true }))"
MOST_JUMP = 0.05
MOST_KB = 60
BIG = ["home", "sae", "features", "feature", "searched", "collection", "map", "compare", "run", "jobs", "running job"]


def open_slowly(page: Page, address: str) -> None:
    """As over a slow line: the page is painted before its scripts come, so whatever they move is seen to move."""
    held: list[Route] = []
    painted = False

    def hold(route: Route) -> None:
        if painted:
            route.continue_()
        else:
            held.append(route)

    page.route(MODULES, hold)
    page.goto(address, wait_until="commit")
    page.evaluate(PAINTED)
    painted = True
    for route in held:
        route.continue_()
    page.wait_for_load_state("load")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", BIG)
def test_nothing_jumps_while_a_page_loads(browser: Browser, site: Site, name: str, width: int):
    with browser.new_context(viewport={"width": width, "height": 800}) as context:
        context.add_cookies(cookies_of(site, "ada"))
        page = context.new_page()
        page.add_init_script(JUMPS)
        open_slowly(page, site.url(name))
        if PAGES[name].drawn:
            expect(page.locator(PAGES[name].drawn)).to_be_visible(timeout=20_000)
        assert jumped(page) < MOST_JUMP


def test_a_jump_is_seen(page: Page, site: Site):
    page.add_init_script(JUMPS)
    page.goto(site.url("jobs"))
    page.evaluate("document.querySelector('h1').insertAdjacentHTML('beforebegin', '<p>late</p>'.repeat(9))")
    assert jumped(page) > MOST_JUMP


@pytest.mark.parametrize("name", ["feature", "features", "searched"])
def test_a_page_is_light_before_plotly(page: Page, site: Site, name: str):
    page.goto(site.url(name), wait_until="networkidle")
    sizes = {address: size for address, size in parts(page).items() if "plotly" not in address}
    assert site.url(name) in sizes
    assert sum(sizes.values()) < MOST_KB * 1000, sorted(sizes.items(), key=lambda item: -item[1])
