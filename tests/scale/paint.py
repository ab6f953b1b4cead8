"""How soon pages are seen and how far they jump, in a real browser on the seeded site: ``python -m tests.scale.paint``.

Each load is that of somebody who comes for the first time: nothing is in the browser's cache.
"""

import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ViewportSize, sync_playwright

from tests.browser import site as sites
from tests.browser.conftest import CHROMIUM, QUIET, cookies_of
from tests.browser.looking import JUMPS, jumped, parts
from tests.browser.site import Site

PAGES = {"home": "home", "SAE": "sae", "features": "features", "feature": "feature", "search": "searched", "map": "map"}
"""Names of pages, and those under which the seeded site has them."""
LOADS = 5
SIZE = ViewportSize(width=1440, height=900)
PAINTED = """() => new Promise((done) => {
    new PerformanceObserver((list) => {
        const found = list.getEntriesByName("first-contentful-paint");
        if (found.length) done(found[0].startTime);
    }).observe({ type: "paint", buffered: true });
})"""


def measure(names: Sequence[str] = tuple(PAGES), loads: int = LOADS) -> dict[str, dict[str, float]]:
    """By page: ``fcp_ms``, the median time to the first contentful paint; ``cls``, the largest layout shift of a load;
    ``kib``, compressed, of the page and all that it loads but Plotly.
    """
    with (
        tempfile.TemporaryDirectory(prefix="featurescope-paint-") as folder,
        sites.running(Path(folder)) as site,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        found = {name: _page(browser, site, PAGES[name], loads) for name in names}
        browser.close()
    return found


def _page(browser: Browser, site: Site, name: str, loads: int) -> dict[str, float]:
    made = [_load(browser, site, name) for _ in range(loads)]
    return {
        "fcp_ms": statistics.median(load["fcp_ms"] for load in made),
        "cls": max(load["cls"] for load in made),
        "kib": max(load["kib"] for load in made),
    }


def _load(browser: Browser, site: Site, name: str) -> dict[str, Any]:
    with browser.new_context(viewport=SIZE) as context:
        context.add_cookies(cookies_of(site, "ada"))
        page = context.new_page()
        page.add_init_script(JUMPS)
        page.goto(site.url(name), wait_until="networkidle")
        sizes = {address: size for address, size in parts(page).items() if "plotly" not in address}
        return {"fcp_ms": page.evaluate(PAINTED), "cls": jumped(page), "kib": sum(sizes.values()) / 1024}


if __name__ == "__main__":
    json.dump(measure(), sys.stdout)
