"""Evidence from a feature to whoever has no account: shared in two clicks, opened elsewhere, taken back, gone."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.core.management import call_command
from playwright.sync_api import Browser, Page, expect

from tests.browser.hands import Hands, Keyboard
from tests.browser.looking import Theme, axe, is_fault, overflow, shot, show
from tests.browser.site import Site

pytestmark = pytest.mark.browser

SHARED = re.compile(r"http://127\.0\.0\.1:\d+/s/[\w-]{32}")


@pytest.fixture
def stranger(browser: Browser) -> Iterator[Page]:
    """A clean profile: no account, no cookie, no JavaScript."""
    with browser.new_context(viewport={"width": 1280, "height": 900}, java_script_enabled=False) as context:
        yield context.new_page()


def share(hands: Hands) -> str:
    """Two clicks, or two keys, to a link that is in the clipboard."""
    page = hands.page
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    hands.press(page.locator("#share-feature"), key="f")
    hands.send(page.get_by_role("button", name="Freeze and copy link"))
    expect(page.get_by_role("textbox", name="The link", exact=True)).to_be_visible()
    expect(page.locator("#heard")).to_have_text("The link is copied.")
    copied = str(page.evaluate("navigator.clipboard.readText()"))
    assert SHARED.fullmatch(copied)
    return copied


def test_from_a_feature_to_a_link_that_opens_elsewhere_until_it_is_taken_back(hands: Hands, home: str, stranger: Page):
    page, by = hands.page, "keys" if isinstance(hands, Keyboard) else "mouse"
    page.goto(f"{home}saes/tiny-lm-l6/features/{30 if by == 'keys' else 31}/")
    said = page.get_by_role("heading", level=1).inner_text().split()[0]
    strongest = page.locator(".example").first.locator(".passage").inner_text()
    link = share(hands)
    if by == "mouse":
        shot(page, "journey 1 shared", "light", 1280)

    stranger.goto(link)
    expect(stranger.get_by_role("heading", level=1)).to_contain_text(f"Feature {said} of tiny-lm-l6")
    assert stranger.locator(".example").first.locator(".passage").first.inner_text() == strongest
    expect(stranger.locator(".identity code").first).to_have_text(re.compile("[0-9a-f]{64}"))
    if by == "mouse":
        shot(stranger, "journey 2 opened", "light", 1280)

    page.goto(f"{home}links/")
    newest = page.locator("tbody tr").first
    expect(newest.locator("[data-name=views]")).to_have_text("1")
    if by == "mouse":
        shot(page, "journey 3 register", "light", 1280)
    hands.press(newest.get_by_role("button", name="Take back"))
    expect(page.get_by_role("status").first).to_contain_text("is taken back: it opens nothing any more")
    if by == "mouse":
        shot(page, "journey 4 taken back", "light", 1280)

    stranger.reload()
    expect(stranger.get_by_role("heading", level=1)).to_have_text("This link opens nothing")
    if by == "mouse":
        shot(stranger, "journey 5 gone", "light", 1280)


def test_a_password_is_asked_for_and_lets_in(page: Page, home: str, stranger: Page):
    page.goto(f"{home}saes/tiny-lm-l6/features/32/")
    page.locator("#share-feature").click()
    page.get_by_text("Password, preview").click()
    page.get_by_label("Password").fill("a long enough password")
    page.get_by_role("button", name="Freeze and copy link").click()
    stranger.goto(page.get_by_role("textbox", name="The link", exact=True).input_value())
    for password in ("not the password", "a long enough password"):
        expect(stranger.get_by_role("heading", level=1)).to_have_text("Evidence with a password")
        stranger.get_by_label("Password").fill(password)
        stranger.keyboard.press("Enter")
    expect(stranger.get_by_role("heading", level=1)).to_contain_text("Feature 32 of tiny-lm-l6")
    stranger.goto(stranger.url)
    expect(stranger.get_by_role("heading", level=1)).to_contain_text("Feature 32 of tiny-lm-l6")


def test_without_javascript_the_link_is_shown(plain: Page, home: str):
    plain.goto(f"{home}runs/1/")
    plain.get_by_text("Freeze and share").click()
    plain.get_by_role("button", name="Freeze and copy link").click()
    expect(plain.get_by_role("heading", level=1)).to_have_text("Frozen and shared")
    assert SHARED.fullmatch(plain.get_by_role("textbox", name="The link", exact=True).input_value())


def test_an_archive_is_saved_verified_and_read_without_the_site(
    site: Site, stranger: Page, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    stranger.goto(site.url("shared comparison"))
    with stranger.expect_download() as download:
        stranger.get_by_role("link", name="Signed archive").click()
    archive = tmp_path / "evidence.zip"
    download.value.save_as(archive)
    call_command("verify", str(archive))
    assert "Nothing was changed" in capsys.readouterr().out
    from features.sharing.archive import unpack

    files = unpack(archive.read_bytes())
    (tmp_path / "page.html").write_bytes(files["page.html"])
    faults: list[str] = []
    stranger.on("console", lambda said: faults.append(said.text) if is_fault(stranger, said) else None)
    stranger.on("request", lambda sent: faults.append(sent.url) if not sent.url.startswith("file:") else None)
    stranger.goto(f"file://{tmp_path}/page.html")
    expect(stranger.get_by_role("heading", level=1)).to_have_text("tiny-lm-l6/20 beside tiny-lm-l6/23")
    expect(stranger.locator(".example mark").first).to_be_visible()
    assert faults == []
    (tmp_path / "figure.svg").write_bytes(files["figures/activations-first.svg"])
    stranger.goto(f"file://{tmp_path}/figure.svg")
    assert stranger.evaluate("document.documentElement.nodeName") == "svg"


def test_an_archive_opens_here(page: Page, site: Site, tmp_path: Path):
    page.goto(site.url("received"))
    with page.expect_download() as download:
        page.get_by_role("link", name="Signed archive").click()
    download.value.save_as(tmp_path / "evidence.zip")
    page.goto(site.url("receive"))
    page.get_by_label("Archive").set_input_files(tmp_path / "evidence.zip")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("status").first).to_contain_text("It is as it was signed, by the key 56475aa75463474c")
    broken = bytearray((tmp_path / "evidence.zip").read_bytes())
    broken[200] ^= 1
    (tmp_path / "broken.zip").write_bytes(broken)
    page.goto(site.url("receive"))
    page.get_by_label("Archive").set_input_files(tmp_path / "broken.zip")
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("alert")).to_contain_text("snapshot.json")


def test_the_form_is_read_by_everybody(page: Page, home: str):
    page.goto(f"{home}saes/tiny-lm-l6/features/33/")
    page.locator("#share-feature").click()
    page.get_by_role("button", name="Freeze and copy link").click()
    expect(page.get_by_role("textbox", name="The link", exact=True)).to_be_visible()
    sizes: tuple[tuple[Theme, int], ...] = (("light", 1440), ("dark", 390), ("light", 320))
    for theme, width in sizes:
        show(page, theme, width)
        shot(page, "share", theme, width)
        assert axe(page) == []
        assert overflow(page) <= 0
