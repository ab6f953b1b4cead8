"""SAEDashboard's batches: one object each, read piece by piece."""

import json
from pathlib import Path
from typing import Any

import pytest

from features.evidence import examples_of, find_activity
from features.models import Run
from jobs.transfer import lines
from tests.jobs.transfer.made import explanation, imported, write_lines

pytestmark = pytest.mark.django_db


def activation(tokens: list[str], values: list[float], **more: Any) -> dict[str, Any]:
    return {"bin_min": -1, "bin_max": 99, "bin_contains": -1, "tokens": tokens, "values": values} | more


def feature(index: int, **more: Any) -> dict[str, Any]:
    return {
        "feature_index": index,
        "frac_nonzero": 0.25,
        "freq_hist_data_bar_values": [0.5, 1.5],
        "freq_hist_data_bar_heights": [3.0, 1.0],
        "pos_str": [" a"],
        "pos_values": [0.5],
        "neg_str": [" b"],
        "neg_values": [-0.5],
        "n_prompts_total": 100,
        "n_tokens_in_prompt": 16,
        "dataset": "openwebtext",
        "activations": [
            activation([" a", " b"], [0.0, 1.9]),
            activation([" c", " b"], [0.4, 0.0], bin_min=0, bin_contains=0.75),
        ],
    } | more


def write_batch(path: Path, features: list[Any], **facts: Any) -> Path:
    about = {"model_id": "gpt2-small", "layer": 6, "sae_set": "res-jb", "sae_id_suffix": None} | facts
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about | {"features": features}))
    return path


def test_batches_come_in(tmp_path: Path) -> None:
    write_batch(tmp_path / "batch-0.json", [feature(0), feature(1)])
    write_batch(tmp_path / "batch-1.json", [feature(2)])
    (tmp_path / "run_settings.json").write_text(json.dumps({"sae_set": "res-jb", "n_prompts_total": 7}))
    row = imported(tmp_path)
    assert (row.state, row.layout, row.n_read, row.n_new, row.faults) == ("done", "saedashboard", 9, 3, [])
    run = row.run
    assert run is not None
    assert (run.origin, run.n_tokens, run.n_contexts, run.corpus.name) == ("saedashboard", 1600, 100, "openwebtext")
    assert (run.sae.source, run.sae.layer, run.sae.hook) == ("neuronpedia:gpt2-small/6-res-jb", 6, "res-jb")
    activity = find_activity(run, 1)
    assert (activity.n_firing, round(activity.max_activation, 3)) == (400, 1.9)
    examples = [(one.example.band, one.example.positions.tolist()) for one in examples_of(run, activity).firing]
    assert examples == [(0, [1]), (3, [0])]  # 30 % of what was counted lies below 0.4
    assert imported(tmp_path).n_same == 3


def test_neuronpedia_s_explanations_find_its_features(tmp_path: Path) -> None:
    run = imported(write_batch(tmp_path / "batch-0.json", [feature(0)])).run
    imported(write_lines(tmp_path / "words" / "e.jsonl", [explanation(0, "about a")]))
    assert Run.objects.get() == run
    assert run is not None
    label = find_activity(run, 0).feature.label
    assert label is not None
    assert label.text == "about a"


def test_one_fault_costs_one_record(tmp_path: Path) -> None:
    bad = activation([" a"], [1.0, 2.0])
    features: list[Any] = [feature(0, activations=[bad, activation([" a"], [float("nan")]), activation([" a"], [1.0])])]
    features += [feature(1, frac_nonzero=float("nan")), 5, feature(2, activations="x"), feature(3)]
    row = imported(write_batch(tmp_path / "batch-0.json", features))
    assert [(fault["line"], fault["why"]) for fault in row.faults] == [
        (1, "feature 0, activation 1: it has 1 tokens and 2 values"),
        (1, "feature 0, activation 2: its values holds what is no finite number"),
        (2, "Its frac_nonzero is no finite number."),
        (3, "It is not a JSON object."),
        (4, "Its activations are no list."),
    ]
    assert Run.objects.get().activities.count() == 2


def test_a_batch_that_breaks_off_gives_what_it_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK", 300)
    path = write_batch(tmp_path / "batch-0.json", [feature(i) for i in range(6)])
    path.write_bytes(path.read_bytes()[:-900])
    row = imported(path)
    n = Run.objects.get().activities.count()
    assert 3 <= n < 6
    assert (row.faults[0]["line"], "too early" in row.faults[0]["why"]) == (n + 1, True)


def test_a_batch_of_another_source_is_refused(tmp_path: Path) -> None:
    write_batch(tmp_path / "batch-0.json", [feature(0)])
    write_batch(tmp_path / "batch-1.json", [feature(1)], layer=7)
    row = imported(tmp_path)
    assert row.state == "refused"
    assert "gpt2-small/6-res-jb, gpt2-small/7-res-jb" in row.error
