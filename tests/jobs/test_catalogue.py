"""What is installed, and what small files say of it. Files are hostile: large, broken, or of another shape."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from jobs import catalogue
from jobs.catalogue import ModelFacts, NotUsable, SAEFacts
from jobs.engine import corpus as engine_corpus
from tests import factories

pytestmark = pytest.mark.django_db


def write(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def fault_of(look: Any, place: object) -> str:
    with pytest.raises(NotUsable) as caught:
        look(str(place))
    return str(caught.value)


def values(choices: catalogue.Choices) -> dict[str, list[str]]:
    return {group: [value for value, _ in items] for group, items in choices}


def test_found_files_are_listed_beside_what_is_registered(var: Path) -> None:
    model = factories.make_model()
    sae = factories.make_sae(model)
    registered = write(var / "corpora" / "known.jsonl", "{}")
    factories.make_corpus(source=str(registered))
    write(var / "models" / "gpt2" / "config.json", {})
    write(var / "saes" / "release" / "layer_3" / "cfg.json", {})
    write(var / "saes" / "release" / "layer_3" / "inner" / "cfg.json", {})
    write(var / "saes" / ".cache" / "cfg.json", {})
    write(var / "corpora" / "news.JSONL.gz", "")
    write(var / "corpora" / "readme.md", "")
    assert str(var / "models" / "gpt2") in values(catalogue.model_choices())["Found on this machine"]
    assert values(catalogue.sae_choices()) == {
        "Registered": [sae.slug],
        "Found on this machine": [str(var / "saes" / "release" / "layer_3")],
    }
    assert values(catalogue.corpus_choices()) == {
        "Registered": ["small-texts"],
        "Found on this machine": [str(var / "corpora" / "news.JSONL.gz")],
    }


def test_a_folder_that_links_to_itself_ends_the_search(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path)
    write(tmp_path / "z" / "cfg.json", {})
    assert tmp_path / "z" in catalogue.find(tmp_path, catalogue.is_sae)


def test_no_more_is_found_than_a_list_can_show(tmp_path: Path) -> None:
    for number in range(catalogue.MAX_FOUND + 5):
        (tmp_path / f"{number}.txt").touch()
    assert len(catalogue.find(tmp_path, catalogue.is_corpus)) == catalogue.MAX_FOUND


def test_suffixes_are_those_the_engine_reads() -> None:
    assert set(catalogue.CORPUS_SUFFIXES) == set(engine_corpus._READERS)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, django; django.setup(); import jobs.views;"
        "print(sorted({'torch', 'transformers', 'pyarrow', 'plotly'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"hidden_size": 576, "num_hidden_layers": 30}, ModelFacts(576, 30)),
        ({"n_embd": 768, "n_layer": 12, "vocab_size": 50257}, ModelFacts(768, 12, 50257)),
        ({"text_config": {"hidden_size": 2560, "num_hidden_layers": 34}}, ModelFacts(2560, 34)),
        ({"hidden_size": "576", "num_hidden_layers": True, "text_config": []}, ModelFacts(None, None)),
    ],
)
def test_model_config(tmp_path: Path, config: dict[str, Any], facts: ModelFacts) -> None:
    write(tmp_path / "config.json", config)
    assert catalogue.model_facts(str(tmp_path)) == facts


def test_memory_is_known_where_both_shapes_are() -> None:
    known = catalogue.memory(ModelFacts(576, 30, 49_152), SAEFacts(576, 9, "resid_post", 4608))
    assert known and 1.2e9 < known < 1.6e9  # docs/performance.md measured 1,447 MiB with the logits of one chunk
    assert catalogue.memory(ModelFacts(), SAEFacts(576, 9, "resid_post", 4608)) is None
    assert catalogue.memory(ModelFacts(576, 30), SAEFacts(576)) is None
    assert catalogue.memory(None, None) is None


def test_a_registered_model_is_known_by_slug_and_by_source() -> None:
    factories.make_model()
    facts = ModelFacts(64, 12, len(factories.TOKENS) + 2)
    assert catalogue.model_facts("tiny-lm") == catalogue.model_facts("models/tiny-lm") == facts


def test_places_that_only_the_worker_can_look_into() -> None:
    assert catalogue.model_facts("openai-community/gpt2") == ModelFacts()
    assert catalogue.model_facts("package:numpy") == ModelFacts()


def test_faults_of_models(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "package no_such_package is not installed" in fault_of(catalogue.model_facts, "package:no_such_package")
    assert "package ..os is not installed" in fault_of(catalogue.model_facts, "package:..os")
    assert "there is nothing at" in fault_of(catalogue.model_facts, tmp_path / "gone")
    assert "not a full path" in fault_of(catalogue.model_facts, "../models")
    assert "no config.json" in fault_of(catalogue.model_facts, tmp_path / "empty")
    assert "not a .gguf" in fault_of(catalogue.model_facts, write(tmp_path / "model.bin", ""))


@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"d_in": 64, "metadata": {"hook_name": "blocks.9.hook_resid_post"}}, SAEFacts(64, 9, "resid_post")),
        ({"d_in": 64, "hook_name": "blocks.2.attn.hook_z"}, SAEFacts(64, 2, "z")),
        ({"d_in": 64, "hook_name": "layers.10.mlp"}, SAEFacts(64, 10, "mlp.output")),
        ({"d_in": 64, "d_sae": 512, "hook_name": "somewhere"}, SAEFacts(64, None, "somewhere", 512)),
        ({"d_in": -1, "metadata": "hostile"}, SAEFacts(None, None, None)),
        ({"metadata": {"hook_name": ["blocks.9.hook_resid_post"]}}, SAEFacts(None, None, None)),
    ],
)
def test_sae_config(tmp_path: Path, config: dict[str, Any], facts: SAEFacts) -> None:
    write(tmp_path / "cfg.json", config)
    assert catalogue.sae_facts(str(tmp_path)) == facts


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("{", "is not valid JSON"),
        ("[" * 200_000, "is not valid JSON"),
        ("[1]", "holds no JSON object"),
        (" " * 1_000_001, "larger than 1 MB"),
    ],
)
def test_faults_of_sae_configs_name_the_file(tmp_path: Path, content: str, fault: str) -> None:
    path = write(tmp_path / "cfg.json", content)
    sentence = fault_of(catalogue.sae_facts, tmp_path)
    assert str(path) in sentence
    assert fault in sentence


def test_an_sae_folder_without_weights(tmp_path: Path) -> None:
    assert "has no cfg.json, and no weights" in fault_of(catalogue.sae_facts, tmp_path)
    assert "has no cfg.json, and no weights" in fault_of(catalogue.sae_facts, write(tmp_path / "notes.txt", ""))
    write(tmp_path / "l19.pth", "")
    assert catalogue.sae_facts(str(tmp_path)) == catalogue.sae_facts(str(tmp_path / "l19.pth")) == SAEFacts()


SAES = sorted((Path(__file__).parents[1] / "fixtures" / "saes").glob("[!b]*/case.json"))


@pytest.mark.parametrize("case", SAES, ids=lambda case: case.parent.name)
def test_what_any_library_wrote_is_found(case: Path) -> None:
    place = case.parent / json.loads(case.read_text())["load_path"]
    assert catalogue.find(case.parent, catalogue.is_sae) == [place]
    catalogue.sae_facts(str(place))


def test_a_model_is_no_sae(tmp_path: Path) -> None:
    write(tmp_path / "config.json", {})
    write(tmp_path / "model.safetensors", "")
    assert not catalogue.is_sae(tmp_path)


def test_an_sae_of_a_hub_is_the_workers_to_look_into() -> None:
    assert catalogue.sae_facts("google/gemma-scope-2b-pt-res@main/layer_20/width_16k") == SAEFacts()
    assert "not a full path" in fault_of(catalogue.sae_facts, "../saes/mine")


def test_corpora(tmp_path: Path) -> None:
    assert catalogue.corpus_bytes(str(write(tmp_path / "a.txt", "twelve bytes"))) == 12
    assert catalogue.corpus_bytes(str(write(tmp_path / "a.parquet", "x"))) is None
    assert "does not end in one of .jsonl" in fault_of(catalogue.corpus_bytes, write(tmp_path / "a.csv", ""))
    (tmp_path / "folder.txt").mkdir()
    assert "is not a file" in fault_of(catalogue.corpus_bytes, tmp_path / "folder.txt")


@pytest.mark.parametrize("look", [catalogue.model_facts, catalogue.sae_facts, catalogue.corpus_bytes])
def test_a_place_with_nul_is_not_looked_up(look: Any, tmp_path: Path) -> None:
    assert "there is nothing at" in fault_of(look, tmp_path / "nul\0.txt")


def test_the_estimate_goes_by_the_newest_run() -> None:
    assert catalogue.estimate(1000, None) is None
    sae, corpus = factories.make_sae(factories.make_model()), factories.make_corpus()
    factories.make_run(sae, corpus, n_tokens=10, seconds=1.0)
    newest = factories.make_run(sae, corpus, n_tokens=1000, seconds=2.5)
    found = catalogue.estimate(8000, 4000)
    assert found is not None
    assert (found.run, found.tokens, found.is_guess, found.seconds) == (newest, 1000, True, 2.5)
    asked = catalogue.estimate(800, None)
    assert asked is not None
    assert (asked.tokens, asked.is_guess, asked.seconds) == (800, False, 2.0)
    assert catalogue.estimate(None, None) is None
