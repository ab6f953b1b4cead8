"""A real site in a real browser: `manage.py demo` on fewer tokens, and Debian's chromium."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = "/usr/bin/chromium"
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
WIDE, NARROW = ViewportSize(width=1280, height=900), ViewportSize(width=360, height=740)


# Of the module, not the session: while playwright is at hand, Django takes the process for an asynchronous one.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


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


@pytest.fixture(scope="module")
def cookies(browser: Browser, address: str) -> list:
    """Signed in by the one-time address."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(address)
    found = context.cookies()
    context.close()
    return found


@pytest.fixture
def page(browser: Browser, cookies: list) -> Iterator[Page]:
    """A signed-in page in which any error of a script, or request to another host, fails the test."""
    with browser.new_context(viewport=WIDE) as context:
        context.add_cookies(cookies)
        page = context.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda error: faults.append(f"script: {error}"))
        page.on("console", lambda m: faults.append(f"console: {m.text}") if m.type == "error" else None)
        page.on("request", lambda r: None if is_ours(r.url) else faults.append(f"another host: {r.url}"))
        yield page
        assert faults == []


@pytest.fixture
def home(address: str) -> str:
    return address.split("/login/", maxsplit=1)[0] + "/"


def is_ours(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "data:", "blob:"))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def printed_address(site: subprocess.Popen[str]) -> str:
    lines = []
    assert site.stdout is not None
    for line in site.stdout:
        lines.append(line)
        if found := re.search(r"http://127\.0\.0\.1:\d+/login/\S+", line):
            return found[0]
    raise AssertionError("the demo ended without an address:\n" + "".join(lines[-40:]))
