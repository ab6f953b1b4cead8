"""Adding an SAE in a real browser, to a real site with its worker: sent, cut off, gone on with, and refused."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, Route, expect
from safetensors.numpy import save_file

from tests.browser.conftest import NARROW, WIDE, free_port, home_of, sign_in
from tests.site.launched import Launch

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FIXTURES = Path(__file__).parents[1] / "fixtures" / "saes"
PIECE = 8 << 20
LIMIT = 40 << 20
SOON = 60_000  # milliseconds: the worker imports torch first
SECOND = f"**/files/*/?offset={PIECE}"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A site without the demo, that takes small SAEs only."""
    before = os.environ.get("MAX_SAE_BYTES")
    os.environ["MAX_SAE_BYTES"] = str(LIMIT)
    launch = Launch(tmp_path_factory.mktemp("site"), "--port", str(free_port()))
    try:
        port, path = launch.address()
        yield f"http://127.0.0.1:{port}{path}"
    finally:
        os.environ.pop("MAX_SAE_BYTES") if before is None else os.environ.update(MAX_SAE_BYTES=before)
        launch.process.terminate()
        launch.end()


@pytest.fixture(scope="module")
def cookies(browser: Browser, address: str) -> list:
    return sign_in(browser, address)


@pytest.fixture(scope="module")
def home(address: str) -> str:
    return home_of(address)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an SAE of four pieces, whose layer is in a config, among files that do not belong to it."""
    folder = tmp_path_factory.mktemp("saes") / "blocks.3.hook_resid_post"
    folder.mkdir()
    rng = np.random.default_rng(0)
    shapes = {"W_enc": (512, 6400), "W_dec": (6400, 512), "b_enc": (6400,), "b_dec": (512,)}
    weights = {name: rng.standard_normal(shape).astype("f4") for name, shape in shapes.items()}
    save_file(weights, folder / "sae_weights.safetensors")
    metadata = {"sae_lens_version": "6.0.0", "hook_name": "blocks.3.hook_resid_post", "model_name": "tiny"}
    config = {"architecture": "standard", "d_in": 512, "d_sae": 6400, "metadata": metadata}
    (folder / "cfg.json").write_text(json.dumps(config))
    (folder / "README.md").write_text("not a part of it")
    return folder


@pytest.fixture
def offsets(page: Page) -> list[str]:
    """Of all pieces that the page sends: file and first byte."""
    found: list[str] = []

    def note(request: Any) -> None:
        if request.method == "PUT":
            found.append(request.url.split("/files/")[1])

    page.on("request", note)
    page.on("dialog", lambda dialog: dialog.accept())  # "leave the page?"
    return found


def choose(page: Page, home: str, folder: Path) -> None:
    page.goto(f"{home}saes/add/")
    page.get_by_label("A folder").set_input_files(folder)


def send(page: Page) -> None:
    page.get_by_role("button", name="Upload").click()


def test_an_upload_that_is_cut_off_goes_on_where_it_stopped(page: Page, home: str, large: Path, offsets: list[str]):
    choose(page, home, large)
    expect(page.locator("[data-said]")).to_contain_text("1 other file is left out")
    with page.expect_request(SECOND):  # which is never answered
        page.route(SECOND, lambda route: None)
        send(page)
    page.reload()
    page.unroute(SECOND)
    expect(page.locator("h1")).to_have_text("blocks.3.hook_resid_post")
    expect(page.locator("#upload ~ form li", has_text="sae_weights")).to_contain_text("8.0 MB of 25.0 MB")
    offsets.clear()
    page.get_by_label("The folder").set_input_files(large)
    expect(page.locator("#checkpoint")).to_contain_text("It can be used.", timeout=SOON)
    assert offsets == [f"1/?offset={n * PIECE}" for n in (1, 2, 3)]
    expect(page.locator("main")).to_contain_text("512 → 6,400")
    expect(page.locator("main")).to_contain_text("resid_post, layer 3")
    page.get_by_role("link", name="New extraction with it").click()
    expect(page.locator("select[name=sae]")).to_have_value("checkpoint:1")


def test_another_folder_is_not_taken_for_the_first(
    page: Page, home: str, large: Path, offsets: list[str], tmp_path: Path
):
    choose(page, home, large)
    with page.expect_request(SECOND):
        page.route(SECOND, lambda route: None)
        send(page)
    page.reload()
    page.unroute(SECOND)
    other = tmp_path / large.name
    other.mkdir()
    for file in large.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    offsets.clear()
    page.get_by_label("The folder").set_input_files(other)
    expect(page.get_by_role("alert")).to_contain_text("sae_weights.safetensors has changed since its upload began")
    assert offsets == []
    page.get_by_role("button", name="Delete").click()
    expect(page).to_have_url(f"{home}saes/add/")


def test_a_pause_and_a_server_that_fails_for_a_moment(browser: Browser, cookies: list, home: str, large: Path):
    answers: list[str] = []

    def answer(route: Route) -> None:
        """Fail at first; then let it hang until it is paused; then pass it on."""
        answers.append(route.request.url)
        if len(answers) == 1:
            route.fulfill(status=503, body="<h1>away</h1>")
        elif len(answers) > 2:
            route.continue_()

    with browser.new_context() as context:  # a page whose console may complain
        context.add_cookies(cookies)
        page = context.new_page()
        choose(page, home, large)
        page.route(SECOND, answer)
        send(page)
        page.wait_for_timeout(0)
        while len(answers) < 2:
            page.wait_for_timeout(50)
        page.get_by_role("button", name="Pause").click()
        expect(page.locator("[data-said]")).to_contain_text("Paused")
        page.get_by_role("button", name="Resume").click()
        expect(page.locator("#checkpoint")).to_contain_text("It can be used.", timeout=SOON)


def test_a_bad_file_is_refused_with_its_reason(page: Page, home: str):
    choose(page, home, FIXTURES / "bad__saelens_nan_weights" / "blocks.5.hook_resid_post")
    send(page)
    expect(page.get_by_role("alert")).to_contain_text("sae_weights.safetensors", timeout=SOON)
    expect(page.get_by_role("alert")).to_contain_text("NaN")
    expect(page.locator("#checkpoint")).to_contain_text("It cannot be used as it is.")


def test_too_large_is_said_before_anything_is_sent(browser: Browser, cookies: list, home: str, tmp_path: Path):
    with (tmp_path / "ae.pt").open("wb") as file:
        file.truncate(LIMIT + 1)
    with browser.new_context() as context:  # a refusal shows up in the console
        context.add_cookies(cookies)
        page = context.new_page()
        page.goto(f"{home}saes/add/")
        page.locator("#files").set_input_files(tmp_path / "ae.pt")
        send(page)
        expect(page.get_by_role("alert")).to_contain_text("more than the 40.0")
        expect(page).to_have_url(f"{home}saes/add/")


def test_without_javascript_a_form_will_do(browser: Browser, cookies: list, home: str):
    case = FIXTURES / "saelens_v6__jumprelu" / "blocks.1.hook_resid_post"
    with browser.new_context(java_script_enabled=False) as context:
        context.add_cookies(cookies)
        page = context.new_page()
        page.goto(f"{home}saes/add/")
        expect(page.locator("#folder")).to_be_hidden()
        page.locator("#files").set_input_files(sorted(case.iterdir()))
        send(page)
        expect(page.locator("#checkpoint")).to_contain_text("It can be used.", timeout=SOON)  # the page reloads itself


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_accessible_and_fit_a_narrow_screen(
    page: Page, home: str, tmp_path: Path, scheme: Literal["light", "dark"], large: Path, offsets: list[str]
):
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    folder = Path(os.environ.get("KEEP_UPLOAD_SHOTS", tmp_path))
    choose(page, home, large)
    with page.expect_request(SECOND):
        page.route(SECOND, lambda route: None)
        send(page)
    fits(page, folder / f"sending-{scheme}")
    page.goto(f"{home}saes/add/")
    found = {row.get_attribute("href") for row in page.locator("main tbody th a").all()}
    assert len(found) >= 4  # ready, refused, and one that is not all here
    for number, path in enumerate(["/saes/add/", *sorted(filter(None, found)), "/jobs/new/"]):
        page.goto(home.rstrip("/") + path)
        fits(page, folder / f"{number}-{scheme}")


def fits(page: Page, picture: Path) -> None:
    for name, size in (("narrow", NARROW), ("wide", WIDE)):
        page.set_viewport_size(size)
        page.screenshot(path=f"{picture}-{name}.png", full_page=True)
        overflow = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overflow <= 0, f"{page.url} is {overflow} px wider than {size['width']} px"
    violations = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in violations] == []
