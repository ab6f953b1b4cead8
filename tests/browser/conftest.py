"""A real browser, Debian's chromium, and a seeded site for it to look at.

``page`` is signed in as ada. A module that launches a site of its own overrides ``home`` and ``cookies``.
"""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.browser import site as sites
from tests.browser.hands import Hands, Keyboard, Mouse
from tests.browser.looking import watched
from tests.browser.site import Site

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = "/usr/bin/chromium"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
WIDE, NARROW = ViewportSize(width=1280, height=900), ViewportSize(width=360, height=740)


# Of the module, not the session: while playwright is at hand, Django takes the process for an asynchronous one.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    return CHROMIUM


@pytest.fixture(scope="session")
def site(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with sites.running(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def home(site: Site) -> str:
    return f"{site.address}/"


@pytest.fixture(scope="module")
def cookies(site: Site) -> list:
    return cookies_of(site, "ada")


@pytest.fixture
def page(browser: Browser, cookies: list) -> Iterator[Page]:
    """A signed-in page in which any error of a script, or request to another host, fails the test."""
    with browser.new_context(viewport=WIDE) as context:
        context.add_cookies(cookies)
        page = context.new_page()
        with watched(page):
            yield page


@pytest.fixture(params=[Mouse, Keyboard])
def hands(request: pytest.FixtureRequest, page: Page) -> Hands:
    """A test that takes them is run with either."""
    hands: Hands = request.param(page)
    return hands


@pytest.fixture
def plain(browser: Browser, cookies: list) -> Iterator[Page]:
    """A signed-in page without JavaScript."""
    with browser.new_context(viewport=WIDE, java_script_enabled=False) as context:
        context.add_cookies(cookies)
        page = context.new_page()
        with watched(page):
            yield page


def cookies_of(site: Site, user: str) -> list:
    return [{"name": "sessionid", "value": site.sessions[user], "url": site.address}]


def sign_in(browser: Browser, address: str) -> list:
    """The cookies that a one-time address gives."""
    with browser.new_context() as context:
        context.new_page().goto(address)
        return context.cookies()


def home_of(address: str) -> str:
    return address.split("/login/", maxsplit=1)[0] + "/"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
