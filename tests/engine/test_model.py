"""Loading models: what is refused, and how it is said; digests; token bytes."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from jobs.engine.errors import EngineError, ModelLoadError
from jobs.engine.model import LoadedModel, load_model
from jobs.engine.model_files import find_model
from jobs.engine.vocabulary import token_bytes
from tests.engine import tiny
from tests.hub import LocalHub


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("/no/such/folder", "/no/such/folder is missing"),
        ("package:no_such_package_here", "package:no_such_package_here is missing"),
        ("package:", "package: is missing"),
        ("nobody/nothing", "nobody/nothing is not in this machine's cache, and the hub is off here"),
    ],
)
def test_a_missing_model_is_named(source: str, sentence: str):
    with pytest.raises(EngineError, match=sentence):
        load_model(source)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"dtype": "int8"}, "The dtype int8 is not known: choose one of float32, bfloat16, float16"),
        ({"device": "abacus"}, "There is no device abacus"),
        ({"device": "meta"}, "The device meta is not supported"),
        ({"device": "cuda:99"}, "so there is no cuda:99"),
    ],
)
def test_what_this_machine_cannot_do_is_said(tiny_folder: Path, options: dict[str, Any], sentence: str):
    with pytest.raises(ModelLoadError, match=sentence):
        load_model(str(tiny_folder / "model"), **options)


def test_a_folder_without_a_model_is_named(tmp_path: Path):
    with pytest.raises(ModelLoadError, match=r"no config.json and no .gguf"):
        load_model(str(tmp_path))
    (tmp_path / "a.gguf").touch()
    (tmp_path / "b.gguf").touch()
    with pytest.raises(ModelLoadError, match=r"2 .gguf files; name one"):
        load_model(str(tmp_path))


@pytest.mark.parametrize("damaged", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_file_is_one_sentence_that_names_the_model(tiny_folder: Path, tmp_path: Path, damaged: str):
    folder = tmp_path / "damaged"
    shutil.copytree(tiny_folder / "model", folder)
    (folder / damaged).write_bytes((folder / damaged).read_bytes()[:40])
    with pytest.raises(ModelLoadError) as raised:
        load_model(str(folder))
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_digests_follow_the_weights_and_the_tokenizer(tiny_model: LoadedModel, tmp_path: Path):
    same = load_model(str(tiny.write_model(tmp_path / "same")))
    other = load_model(str(tiny.write_model(tmp_path / "other", seed=1)))
    assert same.weights_digest == tiny_model.weights_digest
    assert other.weights_digest != tiny_model.weights_digest
    assert other.tokenizer_digest == same.tokenizer_digest == tiny_model.tokenizer_digest


def test_a_model_that_lacks_weights_is_refused(tiny_folder: Path, tmp_path: Path):
    """transformers would make them up."""
    folder = copy_without(tiny_folder / "model", tmp_path / "model", "lm_head.weight")
    with pytest.raises(ModelLoadError, match=r"lacks 1 of its weights, such as lm_head\.weight"):
        load_model(str(folder))


def test_too_little_memory_is_said(tiny_folder: Path, tmp_path: Path):
    folder = copy_without(tiny_folder / "model", tmp_path / "model", "lm_head.weight", "model.embed_tokens.weight")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 10**13}))  # 960 TB
    with pytest.raises(ModelLoadError, match=r"does not fit into the memory of cpu as float32: choose a smaller dtype"):
        load_model(str(folder))


def test_copies_of_the_weights_in_other_formats_change_nothing(tiny_model: LoadedModel, tmp_path: Path):
    folder = tiny.write_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "training_args.bin").write_bytes(b"anything")
    (folder / "consolidated.safetensors").write_bytes(b"anything")
    assert load_model(str(folder)).weights_digest == tiny_model.weights_digest


def test_weights_in_several_files(tiny_model: LoadedModel, tmp_path: Path):
    folder = in_several_files(tiny.write_model(tmp_path / "model"))
    model = load_model(str(folder))
    parts = [folder / name for name in ("config.json", "model-00001-of-00002.safetensors", "odd-name.safetensors")]
    expected = hashlib.sha256(b"".join(part.name.encode() + part.read_bytes() for part in parts))
    assert model.weights_digest == expected.hexdigest()
    assert torch.equal(model.unembedding, tiny_model.unembedding)
    (folder / "odd-name.safetensors").unlink()
    with pytest.raises(ModelLoadError, match=r"is not whole: model\.safetensors\.index\.json names files"):
        load_model(str(folder))


def test_pickled_weights_are_read_as_tensors_alone(tiny_model: LoadedModel, tmp_path: Path):
    folder = tiny.write_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert torch.equal(load_model(str(folder)).unembedding, tiny_model.unembedding)

    class Hostile:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "was run",)

    torch.save(weights | {"lm_head.weight": Hostile()}, folder / "pytorch_model.bin")
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load_model(str(folder))
    assert not (tmp_path / "was run").exists()


@pytest.fixture
def with_code(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that needs Python of its own, which leaves a file called "was run" beside the model when it is."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "with_code"
    shutil.copytree(tiny_folder / "model", folder)
    (folder / "own.py").write_text(
        f"import pathlib\npathlib.Path({str(tmp_path / 'was run')!r}).touch()\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    set_auto_map(folder, "own.OwnConfig", "own.OwnModel")
    return folder


def set_auto_map(folder: Path, config_class: str, model_class: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    auto_map = {"AutoConfig": config_class, "AutoModelForCausalLM": model_class}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": auto_map}))


def test_code_that_comes_with_a_model_is_not_run(with_code: Path):
    with pytest.raises(ModelLoadError) as raised:
        load_model(str(with_code))
    assert f"adds {with_code} to the setting TRUST_REMOTE_CODE" in str(raised.value)
    assert not (with_code.parent / "was run").exists()


def test_code_that_is_trusted_is_run_and_belongs_to_the_model(with_code: Path, tiny_model: LoadedModel):
    model = load_model(str(with_code), trust_remote_code=True)
    assert (with_code.parent / "was run").exists()
    assert torch.equal(model.unembedding, tiny_model.unembedding)
    (with_code / "own.py").write_text((with_code / "own.py").read_text() + "# changed\n")
    assert load_model(str(with_code), trust_remote_code=True).weights_digest != model.weights_digest


def test_code_in_another_repository_is_not_run_even_for_a_trusted_model(with_code: Path):
    set_auto_map(with_code, "lab/code--own.OwnConfig", "lab/code--own.OwnModel")
    with pytest.raises(ModelLoadError, match="takes its code from another repository"):
        load_model(str(with_code), trust_remote_code=True)


@pytest.fixture
def local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalHub]:
    with LocalHub() as local:
        local.point(monkeypatch, tmp_path / "cache")
        yield local


def test_a_model_from_a_hub_is_the_one_in_a_folder(
    local: LocalHub, tiny_folder: Path, tiny_model: LoadedModel, tmp_path: Path
):
    folder = tmp_path / "upload"
    shutil.copytree(tiny_folder / "model", folder)
    for unneeded in ("README.md", "pytorch_model.bin", "own.py", "original/model.safetensors"):
        (folder / unneeded).parent.mkdir(exist_ok=True)
        (folder / unneeded).write_bytes(b"anything")
    commit = local.push("lab/tiny", folder)
    model = load_model("lab/tiny")
    assert (model.source, model.revision, model.name) == ("lab/tiny", commit, "tiny")
    assert model.weights_digest == tiny_model.weights_digest
    assert model.tokenizer_digest == tiny_model.tokenizer_digest
    assert tiny_model.revision == ""
    assert sorted(local.downloads()) == sorted(p.name for p in (tiny_folder / "model").glob("*.[js]*[ns]"))
    assert [line for line in local.asked if "/api/" in line] == ["GET /api/models/lab/tiny"]


def test_a_model_comes_from_one_commit(local: LocalHub, tiny_model: LoadedModel, tiny_folder: Path, tmp_path: Path):
    first = local.push("lab/tiny", tiny_folder / "model")
    second = local.push("lab/tiny", tiny.write_model(tmp_path / "other", seed=1))
    moved = load_model("lab/tiny@main")
    pinned = load_model("lab/tiny@main", revision=first)  # what is known of a registered model
    assert (moved.revision, pinned.revision) == (second, first)
    assert moved.weights_digest != pinned.weights_digest == tiny_model.weights_digest
    asked = len(local.asked)
    load_model("lab/tiny", revision=first)
    assert len(local.asked) == asked


def test_a_model_in_several_files_in_a_folder_of_a_repository(local: LocalHub, tmp_path: Path):
    folder = in_several_files(tiny.write_model(tmp_path / "all" / "small"))
    (folder / "model-00003.safetensors").write_bytes(b"in no index")
    local.push("lab/tiny", tmp_path / "all")
    model = load_model("lab/tiny/small")
    assert model.weights_digest == load_model(str(folder)).weights_digest
    assert model.name == "small"
    assert "small/model-00003.safetensors" not in local.downloads()


def test_a_gguf_file_in_a_repository(local: LocalHub):
    commit = local.push("lab/quantised", {"model.Q4.gguf": b"GGUF", "model.Q8.gguf": b"GGUF", "README.md": b""})
    files = find_model("lab/quantised/model.Q4.gguf")
    assert files.gguf is not None and files.gguf.read_bytes() == b"GGUF"
    assert (files.name, files.revision) == ("model.Q4", commit)
    assert local.downloads() == ["model.Q4.gguf"]
    with pytest.raises(ModelLoadError, match=r"name one of its \.gguf files, such as lab/quantised/model\.Q4\.gguf"):
        load_model("lab/quantised")


def test_pickled_weights_are_not_taken_from_a_hub(local: LocalHub, tiny_folder: Path):
    files = {p.name: p.read_bytes() for p in (tiny_folder / "model").iterdir()}
    files["pytorch_model.bin"] = files.pop("model.safetensors")
    local.push("lab/tiny", files)
    with pytest.raises(ModelLoadError, match="only pickled weights, which can run code"):
        load_model("lab/tiny")
    assert "pytorch_model.bin" not in local.downloads()


def test_code_comes_from_a_hub_only_for_a_trusted_model(local: LocalHub, with_code: Path):
    local.push("lab/own", with_code)
    with pytest.raises(ModelLoadError, match="adds lab/own to the setting TRUST_REMOTE_CODE"):
        load_model("lab/own")
    assert "own.py" not in local.downloads()
    model = load_model("lab/own", trust_remote_code=True)
    assert model.weights_digest == load_model(str(with_code), trust_remote_code=True).weights_digest


def copy_without(model: Path, folder: Path, *names: str) -> Path:
    shutil.copytree(model, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if name not in names}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def in_several_files(folder: Path) -> Path:
    """The same weights in two files and an index, as large models have them."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = ("model-00001-of-00002.safetensors", "odd-name.safetensors")
    where = {name: names[i % 2] for i, name in enumerate(sorted(weights))}
    for part in names:
        part_of = {name: weights[name] for name in where if where[name] == part}
        save_file(part_of, folder / part, metadata={"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return folder


def test_token_bytes_spell_the_text(tiny_model: LoadedModel):
    tokens = token_bytes(tiny_model)
    ends = [0, *tokens.ends.tolist()]
    text = "the naïve café 東京 🙂\n\tfox"
    spelled = b"".join(tokens.raw[ends[i] : ends[i + 1]] for i in tiny_model.tokenize(text)[1:])
    assert spelled.decode() == text
    assert tokens.joiner == ""


def test_words_without_spaces_are_joined_by_one(tiny_model: LoadedModel):
    import dataclasses

    words = Tokenizer(models.WordLevel({"[UNK]": 0, "storm": 1, "rain": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    model = dataclasses.replace(tiny_model, tokenizer=PreTrainedTokenizerFast(tokenizer_object=words))
    tokens = token_bytes(model)
    assert tokens.joiner == " "
    assert tokens.raw == b"[UNK]stormrain"
