"""The tokenised corpus on disk gives the same contexts as cutting does."""

from pathlib import Path

import numpy as np
import pytest

from jobs.engine.corpus import cut_contexts, read_corpus
from jobs.engine.errors import CorpusError
from jobs.engine.model import LoadedModel
from jobs.engine.tokens import TokenisedCorpus


def build(folder: Path, *args: object) -> TokenisedCorpus:
    *_, corpus = TokenisedCorpus.build(folder, *args)  # type: ignore[arg-type]
    assert isinstance(corpus, TokenisedCorpus)
    return corpus


def test_contexts_come_back_by_number(tiny_folder: Path, tiny_model: LoadedModel, tmp_path: Path):
    path = tiny_folder / "corpus.jsonl"
    want = list(cut_contexts(read_corpus(path), tiny_model.tokenize, 32))
    got = build(tmp_path / "tokens", path, tiny_model.tokenize, 32)
    assert len(got) == len(want)
    assert got.n_tokens == sum(len(c.token_ids) for c in want)
    for one, other in zip(got, want, strict=True):
        assert (one.number, one.document_id, one.source, one.offset) == (
            other.number, other.document_id, other.source, other.offset,
        )  # fmt: skip
        np.testing.assert_array_equal(one.token_ids, other.token_ids)
    assert [c.number for c in got[3:6]] == [3, 4, 5]


def test_a_corpus_that_breaks_off_leaves_no_folder(tiny_model: LoadedModel, tmp_path: Path):
    path = tmp_path / "broken.jsonl"
    path.write_text('{"text": "the fox"}\nnot json\n')
    with pytest.raises(CorpusError):
        build(tmp_path / "tokens", path, tiny_model.tokenize, 32)
    assert not (tmp_path / "tokens").exists()
    path.write_text('{"text": "the fox"}\n')
    assert len(build(tmp_path / "tokens", path, tiny_model.tokenize, 32)) == 1


def test_a_complete_folder_is_not_made_again(tiny_folder: Path, tiny_model: LoadedModel, tmp_path: Path):
    build(tmp_path / "tokens", tiny_folder / "corpus.jsonl", tiny_model.tokenize, 32)
    again = build(tmp_path / "tokens", tmp_path / "gone.jsonl", tiny_model.tokenize, 32)
    assert len(again)
