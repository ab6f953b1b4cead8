"""Loading models: what is refused, and how it is said; digests; token bytes."""

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from jobs.engine.errors import ModelLoadError
from jobs.engine.model import LoadedModel, load_model
from jobs.engine.vocabulary import token_bytes
from tests.engine import tiny


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("/no/such/folder", "/no/such/folder is missing"),
        ("package:no_such_package_here", "package:no_such_package_here is missing"),
        ("nobody/nothing", "nobody/nothing cannot be loaded"),
    ],
)
def test_a_missing_model_is_named(source: str, sentence: str):
    with pytest.raises(ModelLoadError, match=sentence):
        load_model(source)


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
