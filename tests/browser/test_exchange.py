"""Export and import in a real browser, with a real worker: the same comes back, and what is wrong is said."""

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import FilePayload, Locator, Page, expect

from tests.browser.hands import Hands, Mouse
from tests.browser.seed.evidence import LABELLED
from tests.browser.site import ROOT, Site, surroundings
from tests.browser.test_journeys import check_label

pytestmark = pytest.mark.browser

SOON = 60_000  # milliseconds: a worker starts, and is not alone on its machine
TYPED = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module", autouse=True)
def worker(site: Site) -> Iterator[None]:
    flags = ["--queues", "default", "--pool", "solo", "--without-gossip", "--without-mingle", "--loglevel", "WARNING"]
    with (site.var / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "interp_site", "worker", *flags],
            cwd=ROOT, env=surroundings(site.var), stdout=log, stderr=log,
        )  # fmt: skip
    yield
    process.terminate()
    process.wait(30)


def choose_files(hands: Hands, field: Locator, *files: Path | FilePayload) -> None:
    """The browser's own window is the one thing that no page can open."""
    with hands.page.expect_file_chooser() as opened:
        hands.press(field)
    opened.value.set_files(list(files))  # type: ignore[arg-type]


def send(hands: Hands, home: str, name: str, *files: Path | FilePayload) -> None:
    page = hands.page
    page.goto(f"{home}import/")
    form = page.get_by_role("region", name="From this computer")
    choose_files(hands, form.get_by_label("Files"), *files)
    hands.write(form.get_by_label("Name"), name)
    hands.send(form.get_by_role("button", name="Import"))


def payload(name: str, *records: object, ends: str = "") -> FilePayload:
    text = "".join(f"{json.dumps(record)}\n" for record in records) + ends
    return FilePayload(name=name, mimeType="application/octet-stream", buffer=text.encode())


def record(model: str, index: int | str, **more: object) -> dict[str, object]:
    """A feature as Neuronpedia's files have it."""
    return {"modelId": model, "layer": "1-a", "index": str(index), "frac_nonzero": 0.1, "maxActApprox": 1.5} | more


def evidence(page: Page) -> dict[str, list[str]]:
    """What a feature's page says: its label, its figures but for the run's number, and its examples."""
    page.locator(".example").first.wait_for()
    return {
        "label": page.get_by_role("heading", level=1).locator(".label").all_inner_texts(),
        "stats": page.locator("main .stats > div:not(:last-child)").all_inner_texts(),
        "examples": page.locator("[id^=band] + .band .passage").all_inner_texts(),
        "strengths": page.locator("[id^=band] + .band .value").all_inner_texts(),
    }


def test_a_run_that_is_exported_and_imported_says_the_same(hands: Hands, home: str, site: Site, tmp_path: Path):
    page, name = hands.page, "tiny-lm-l6 again"
    page.goto(site.url("run"))
    with page.expect_download() as begun:
        hands.press(page.get_by_role("link", name="Export"))
    archive = tmp_path / begun.value.suggested_filename
    begun.value.save_as(archive)
    assert archive.suffix == ".zip"
    send(hands, home, name, archive)
    check_label(page, name)
    expect(page.locator("#import")).to_contain_text("done", timeout=SOON)
    hands.press(page.get_by_role("link", name="Its features"))
    check_label(page, "Features")
    page.goto(f"{page.url.partition('?')[0]}{LABELLED}/")
    imported = evidence(page)
    page.goto(site.url("feature"))
    assert imported == evidence(page)
    assert imported["examples"]
    assert len(imported["stats"]) == 4


def test_a_file_of_another_kind_is_refused_with_its_name(hands: Hands, home: str):
    send(hands, home, "notes", payload("notes.txt", "what I think of it"))
    expect(hands.page.get_by_role("alert")).to_contain_text("notes.txt is no file that is read here")
    form = hands.page.get_by_role("region", name="From this computer")
    expect(form.get_by_label("Name")).to_have_value("notes")


def test_half_a_file_is_refused_with_its_reason(hands: Hands, home: str):
    """What could be read of it is here."""
    lines = [json.dumps(record("half", n, posed=[random.random() for _ in range(9)])) for n in range(90)]
    whole = gzip.compress("\n".join(lines).encode())
    half = FilePayload(name="batch-0.jsonl.gz", mimeType="application/gzip", buffer=whole[: len(whole) // 2])
    send(hands, home, "cut off", half)
    refused = hands.page.get_by_role("region", name="What was refused")
    expect(refused).to_contain_text("batch-0.jsonl.gz", timeout=SOON)
    expect(refused).to_contain_text("ends too early")
    expect(hands.page.get_by_role("link", name="Its features")).to_be_visible()


def test_a_line_that_is_refused_is_told_as_text(hands: Hands, home: str):
    """The others of its file are imported."""
    records = [record("odd", 0), record("odd", TYPED), record("odd", 1)]
    send(hands, home, "odd lines", payload("features.jsonl", *records, ends=f"{TYPED}\n"))
    refused = hands.page.get_by_role("region", name="What was refused")
    expect(refused).to_contain_text("features.jsonl", timeout=SOON)
    assert refused.locator("td.num").all_inner_texts() == ["2", "4"]
    expect(refused).to_contain_text("index")
    assert hands.page.locator("main img").count() == 0


def test_nothing_in_it_is_used(page: Page, home: str):
    send(Mouse(page), home, "no features", payload(f"{TYPED}.jsonl", {TYPED: 1}))
    expect(page.get_by_role("alert")).to_contain_text(f"{TYPED}.jsonl", timeout=SOON)
    expect(page.get_by_role("main")).to_contain_text("Nothing of it was imported.")
    assert page.locator("main img").count() == 0


def test_without_javascript(plain: Page, home: str):
    plain.goto(f"{home}import/")
    form = plain.get_by_role("region", name="From this computer")
    form.get_by_label("Files").set_input_files(payload("features.jsonl", record("bare", 0)))
    form.get_by_label("Name").fill("without a script")
    form.get_by_role("button", name="Import").click()
    check_label(plain, "without a script")
    expect(plain.get_by_role("link", name="Its features")).to_be_visible(timeout=SOON)  # the page loads itself again
