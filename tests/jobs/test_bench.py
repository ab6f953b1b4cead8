"""The bench, small: every part runs, and the figures for machines are there under their names."""

import json
from pathlib import Path

import numpy as np
import pytest
from django.core.management import CommandError, call_command

from tests.browser.conftest import CHROMIUM
from tests.scale.paint import PAGES

SMALL = {"model": "random:tiny", "sae": "random:96", "limit": 4096, "features": 300, "device": "cpu"}


@pytest.mark.slow
def test_the_bench_measures_what_releases_are_judged_by(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    np.save(tmp_path / "tokens.npy", np.random.default_rng(0).integers(0, 300, (40, 64)))
    answer = tmp_path / "bench.json"
    options = SMALL | {"tokens": str(tmp_path / "tokens.npy"), "corpus": "none", "json": str(answer)}
    call_command("bench", parts="extraction,width,ingest", **options)
    found = json.loads(answer.read_text())
    extraction = found["extraction"]
    assert extraction["n_tokens"] == 40 * 64
    assert extraction["n_features"] == 96
    assert extraction["tokens_per_s"] > 0
    assert extraction["ratio_to_forward_encode"] == pytest.approx(
        extraction["tokens_per_s"] / extraction["forward_encode_tokens_per_s"]
    )
    assert extraction["peak_growth_at_10x"] > 0.5
    assert extraction["peak_extra_mb"] == pytest.approx(extraction["peak_mb"] - extraction["peak_forward_mb"])
    assert found["ingest"]["sqlite_s"] > 0
    assert found["ingest"]["postgres_s"] > 0
    assert 100 < found["storage"]["bytes_per_feature"] < 100_000
    assert found["width"]["state_mb"][-1] > 0
    assert "whole extraction" in capsys.readouterr().out


@pytest.mark.slow
def test_the_bench_measures_a_large_site(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    answer = tmp_path / "bench.json"
    call_command("bench", parts="web", features=400, requests=8, corpus="none", json=str(answer))
    web = json.loads(answer.read_text())["web"]
    for kind in ("feature", "table", "sae", "search", "meaning"):
        assert web[f"{kind}_p95_ms"].keys() == {"sqlite", "postgres"}
        assert min(web[f"{kind}_p95_ms"].values()) > 0
    pages = [page for name in ("sqlite", "postgres") for page in web[name]["kinds"].values()]
    assert web["queries_max"] == max(page["queries"] for page in pages)
    assert all(page["n"] > 0 and page["p50"] <= page["p95"] <= page["max"] and page["kib"] > 0.5 for page in pages)
    both = web["neuronpedia"]
    assert both["n_features"] == 400 * 65_536 // 1_000_000
    assert web["size_ratio"] == pytest.approx(both["bytes"]["theirs"] / both["bytes"]["ours"])
    assert web["feature_query_ratio"] == pytest.approx(both["ms"]["theirs"] / both["ms"]["ours"])
    assert "features in one PostgreSQL" in capsys.readouterr().out


@pytest.mark.slow
def test_the_bench_measures_shared_evidence(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    answer = tmp_path / "bench.json"
    call_command("bench", parts="shared", features=400, requests=8, corpus="none", json=str(answer))
    shared = json.loads(answer.read_text())["shared"]
    assert shared["page_p95_ms"].keys() == {"sqlite", "postgres"}
    for name in ("sqlite", "postgres"):
        assert shared[name]["n_snapshots"] > 100
        assert 0 < shared[name]["page"]["kib"] < 60
        assert shared[name]["page"]["n"] == 8
    assert "page that a link opens" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.browser
def test_the_bench_measures_what_a_browser_paints(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    if not Path(CHROMIUM).exists():
        pytest.skip(f"{CHROMIUM} is not installed")
    answer = tmp_path / "bench.json"
    call_command("bench", parts="paint", corpus="none", json=str(answer))
    web = json.loads(answer.read_text())["web"]
    assert web["fcp_ms"].keys() == web["cls"].keys() == PAGES.keys()
    assert min(web["fcp_ms"].values()) > 0
    assert 0 <= max(web["cls"].values()) < 1
    assert "first paint" in capsys.readouterr().out


@pytest.mark.slow
def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    path = tmp_path / "floats.npy"
    np.save(path, np.zeros((4, 8)))
    with pytest.raises(CommandError, match="Not measured: extraction"):
        call_command("bench", parts="extraction", **SMALL | {"tokens": str(path), "corpus": "none"})
    assert "floats.npy holds float64 [4, 8]; token ids [contexts, length] are needed." in capfd.readouterr().err


def test_an_unknown_part_is_refused():
    parts = "extraction, width, ingest, pages, web, paint, shared"
    with pytest.raises(CommandError, match=f"There is no part speed: choose some of {parts}"):
        call_command("bench", parts="speed")
