"""What a test does with a page beyond clicking: finds its faults, looks at it in both themes, takes its picture."""

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import ConsoleMessage, Page, ViewportSize

Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")
SERIOUS = {"serious", "critical"}
# `make screenshots` keeps pictures of all pages here; any other run takes none.
KEPT = Path(__file__).resolve().parents[2] / "docs" / "screens" if os.environ.get("KEEP_SCREENSHOTS") else None
QUALITY = 70
TAKEN_BACK = ("htmx:sendAbort,", "htmx:afterRequest,")
JUMPS = """
window.jumped = 0;
new PerformanceObserver((list) => {
  for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.jumped += shift.value;
}).observe({ type: "layout-shift", buffered: true });
"""


@contextmanager
def watched(page: Page) -> Iterator[list[str]]:
    """Any error of a script, or request to another host, by the end fails the test."""
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    page.on("console", lambda said: faults.append(f"console: {said.text}") if is_fault(page, said) else None)
    page.on("request", lambda sent: None if is_ours(sent.url) else faults.append(f"another host: {sent.url}"))
    yield faults
    assert faults == [], faults


def is_fault(page: Page, said: ConsoleMessage) -> bool:
    """The browser tells of a page that answers 404 as it does of a script that is missing: the page is no fault. Nor is
    it one that htmx takes back a question that was asked anew while its answer was on its way.
    """
    of_the_page = "Failed to load resource" in said.text and said.location["url"] == page.url
    return said.type == "error" and not of_the_page and not said.text.startswith(TAKEN_BACK)


def is_ours(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def show(page: Page, theme: Theme, width: int, height: int = 900) -> None:
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    page.set_viewport_size(ViewportSize(width=width, height=height))


def axe(page: Page, *rules: str) -> list[str]:
    """What keeps people from using the page, one line a rule: with the first element and why."""
    options = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    found = Axe().run(page, options=options).response["violations"]
    return [told(fault) for fault in found if fault["impact"] in SERIOUS]


def told(fault: dict[str, Any]) -> str:
    node = fault["nodes"][0]
    return f"{fault['id']}, {len(fault['nodes'])} times: {node['html'][:200]} ({node['failureSummary'][:300]})"


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than its window."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def shot(page: Page, name: str, theme: Theme, width: int) -> None:
    """docs/screens/<name>-<theme>-<width>.webp of what the window shows, if pictures are kept."""
    if KEPT is None:
        return
    KEPT.mkdir(exist_ok=True)
    with_devtools = page.context.new_cdp_session(page)  # playwright's own screenshots are PNG or JPEG alone
    taken = with_devtools.send("Page.captureScreenshot", {"format": "webp", "quality": QUALITY})
    (KEPT / f"{name.replace(' ', '-')}-{theme}-{width}.webp").write_bytes(base64.b64decode(taken["data"]))
    with_devtools.detach()


def focused(page: Page) -> str:
    """What has the keyboard: its tag, and its name or text."""
    script = """() => {
        const e = document.activeElement;
        return `${e.tagName.toLowerCase()} ${(e.ariaLabel || e.name || e.innerText || "").trim().slice(0, 60)}`;
    }"""
    return str(page.evaluate(script))


def tab_to(page: Page, text: str, most: int = 80) -> None:
    """Press Tab until the element whose name or text contains ``text`` has the keyboard and shows that it has."""
    seen = []
    for _ in range(most):
        page.keyboard.press("Tab")
        seen.append(focused(page))
        if text in seen[-1]:
            assert outlined(page), f"{seen[-1]} does not show that it has the focus"
            return
    raise AssertionError(f"Tab never came to {text}: {seen}")


def outlined(page: Page) -> bool:
    script = """() => {
        const style = getComputedStyle(document.activeElement);
        return (style.outlineStyle !== "none" && style.outlineWidth !== "0px") || style.boxShadow !== "none";
    }"""
    return bool(page.evaluate(script))


def jumped(page: Page) -> float:
    """The sum of layout shifts since the page began to load, as browsers score them."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    return float(page.evaluate("window.jumped"))


def parts(page: Page) -> dict[str, int]:
    """Compressed bytes by address: the page and everything that it has loaded."""
    entries = "[...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]"
    found = page.evaluate(f"{entries}.map(e => [e.name, e.encodedBodySize])")
    return dict(found)
