"""Corpus files read back as they were written, and every fault ends in one sentence that says where it is."""

import contextlib
import gzip
import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.engine import corpus
from jobs.engine.corpus import Context, Document, corpus_facts, cut_contexts, read_corpus
from jobs.engine.errors import CorpusError, SettingsError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda text: text.strip())
LABELS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=200)
DOCUMENTS = st.lists(st.builds(Document, id=LABELS, source=LABELS, text=TEXTS), min_size=1, max_size=5)


def write_jsonl(path: Path, rows: list[dict[str, object]], ensure_ascii: bool = True) -> Path:
    data = "".join(json.dumps(row, ensure_ascii=ensure_ascii) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def as_rows(documents: list[Document]) -> list[dict[str, object]]:
    return [{"id": one.id, "source": one.source, "text": one.text} for one in documents]


@given(documents=DOCUMENTS, suffix=st.sampled_from([".jsonl", ".jsonl.gz"]), ascii_only=st.booleans())
def test_json_lines_round_trip(documents: list[Document], suffix: str, ascii_only: bool):
    with tempfile.TemporaryDirectory() as folder:
        path = write_jsonl(Path(folder) / f"c{suffix}", as_rows(documents), ensure_ascii=ascii_only)
        assert list(read_corpus(path)) == documents


@settings(deadline=None)  # the first example imports pyarrow
@given(documents=DOCUMENTS)
def test_parquet_round_trip(documents: list[Document]):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.parquet"
        pq.write_table(pa.Table.from_pylist(as_rows(documents)), path)
        assert list(read_corpus(path)) == documents


@given(text=TEXTS)
def test_txt_is_one_document(text: str):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "Novel.TXT"
        path.write_bytes(text.encode())
        assert list(read_corpus(path)) == [Document("1", "Novel.TXT", text.removeprefix("\ufeff"))]


def test_ids_and_sources_are_filled_in_and_made_safe(tmp_path: Path):
    rows: list[dict[str, object]] = [
        {"text": "a"},
        {"text": " "},  # skipped, but counted
        {"text": "b", "id": 7, "source": 1.5},
        {"text": "c", "id": True, "source": None},
        {"text": "d", "id": "x" * 999, "source": "a\0\ud800b"},
        {"text": "e\0\ud83d\ude00\ud800f", "id": "", "other": [1]},
    ]
    path = write_jsonl(tmp_path / "six.jsonl", rows)
    assert list(read_corpus(str(path))) == [
        Document("1", "six.jsonl", "a"),
        Document("7", "1.5", "b"),
        Document("true", "six.jsonl", "c"),
        Document("x" * 200, "a\ufffd\ufffdb", "d"),
        Document("6", "six.jsonl", "e\0\U0001f600\ufffdf"),
    ]


def test_parquet_ids_come_from_the_row(tmp_path: Path):
    path = tmp_path / "two.parquet"
    pq.write_table(pa.table({"text": ["", "a", "b"], "id": [10, None, 12]}), path)
    assert list(read_corpus(path)) == [Document("2", "two.parquet", "a"), Document("12", "two.parquet", "b")]


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_no_fault(tmp_path: Path):
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'\xef\xbb\xbf\r\n{"text": "a"}\r\n\r\n  \n{"text": "b"}')
    assert [(one.id, one.text) for one in read_corpus(path)] == [("2", "a"), ("5", "b")]


def test_reading_is_lazy(tmp_path: Path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "a"}\nnot json\n')
    documents = read_corpus(path)
    assert next(documents).text == "a"
    with pytest.raises(CorpusError, match="line 2"):
        next(documents)


def test_facts(tmp_path: Path):
    path = write_jsonl(tmp_path / "c.jsonl.gz", [{"text": "a"}, {"text": ""}, {"text": "b"}])
    facts = corpus_facts(path)
    assert (facts.n_documents, facts.n_bytes) == (2, path.stat().st_size)
    assert facts.digest == hashlib.sha256(path.read_bytes()).hexdigest()


GOOD = b'{"text": "fine"}\n'
LINE_FAULTS = [
    (b"{'text': 1}", r"line 2: this is not JSON \(.* at character 2\)\.$"),
    (b"[" * 100_000, "line 2: this JSON cannot be read"),
    (b'{"text": "a", "n": ' + b"9" * 5000 + b"}", "line 2: this JSON cannot be read"),
    (b'["text"]', "line 2: a line is an object .* this is a list"),
    (b"3", "line 2: a line is an object .* this is a number"),
    (b"null", "line 2: a line is an object .* this is null"),
    (b'{"Text": "a"}', "line 2: `text` is missing"),
    (b'{"text": null}', "line 2: `text` is missing"),
    (b'{"text": ["a"]}', "line 2: `text` is a list"),
    (b'{"text": "a", "id": {}}', "line 2: `id` is an object"),
    (b'{"text": "a", "source": []}', "line 2: `source` is a list"),
    (b'{"text": "\xff"}', r"line 2: this is not UTF-8 \(byte 10 "),
]


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize(("line", "message"), LINE_FAULTS)
def test_a_bad_line_is_named(tmp_path: Path, line: bytes, message: str, suffix: str):
    path = tmp_path / f"bad{suffix}"
    data = GOOD + line + b"\n" + GOOD
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    assert_fault(path, message)


def test_a_document_has_a_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(corpus, "MAX_DOCUMENT_BYTES", 100)
    (tmp_path / "c.jsonl").write_bytes(GOOD + json.dumps({"text": "a" * 100}).encode())
    (tmp_path / "c.txt").write_bytes(b"a" * 101)
    pq.write_table(pa.table({"text": ["a", "a" * 101]}), tmp_path / "c.parquet")
    assert_fault(tmp_path / "c.jsonl", "line 2: one document is at most")
    assert_fault(tmp_path / "c.txt", "one document is at most")
    assert_fault(tmp_path / "c.parquet", "row 2: one document is at most")


def test_what_is_no_corpus_file_is_refused_at_once(tmp_path: Path):
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "file").write_bytes(GOOD)
    os.mkfifo(tmp_path / "pipe.txt")
    for name, message in [
        ("gone.jsonl", "there is no such file"),
        ("file/x.jsonl", "there is no such file"),
        ("a\0b.jsonl", "there is no such file"),
        ("x" * 300 + ".txt", "there is no such file"),
        ("folder.jsonl", "this is not a file"),
        ("pipe.txt", "this is not a file"),
        ("file", "no known kind of corpus; give a file that ends in one of .jsonl, .jsonl.gz, .txt, .parquet"),
    ]:
        with pytest.raises(CorpusError, match=message) as fault:
            read_corpus(tmp_path / name)
        assert str(fault.value).startswith(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "data"), [("a.jsonl", b""), ("b.jsonl", b'\n{"text": " \\n"}\n'), ("c.txt", b" \n"), ("d.jsonl.gz", b"")]
)
def test_a_corpus_without_text_is_a_fault(tmp_path: Path, name: str, data: bytes):
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert_fault(tmp_path / name, "there is no text in this corpus")


def test_txt_that_is_not_utf8(tmp_path: Path):
    (tmp_path / "c.txt").write_bytes("café".encode("latin-1"))
    assert_fault(tmp_path / "c.txt", r"not UTF-8 \(byte 3 ")


def test_broken_gzip(tmp_path: Path):
    whole = gzip.compress(GOOD * 1000 + os.urandom(1000).hex().encode())
    damaged = whole[:10] + b"\xff" * 20 + whole[30:]
    for name, data in [("cut", whole[:-20]), ("not", GOOD), ("damaged", damaged)]:
        (tmp_path / f"{name}.jsonl.gz").write_bytes(data)
        assert_fault(tmp_path / f"{name}.jsonl.gz", r"the file is broken or cut off \(.*\)\.$")


def test_parquet_faults(tmp_path: Path):
    path = tmp_path / "c.parquet"
    for table, message in [
        ({"body": ["a"]}, r"needs one column called text; this one has \['body'\]"),
        ({"text": [1]}, "row 1: `text` is a number"),
        ({"text": ["a", None]}, "row 2: `text` is missing"),
        ({"text": [b"a"]}, "row 1: `text` is bytes"),
        ({"text": ["a"], "id": [[1]]}, "row 1: `id` is a list"),
        ({"text": pa.array([], pa.string())}, "there is no text in this corpus"),
        ({"text": pa.array([b"ok", b"\xff"]).view(pa.string())}, "the text is not UTF-8"),
    ]:
        pq.write_table(pa.table(table), path)
        assert_fault(path, message)
    path.write_bytes(b"PAR1 this is not parquet")
    assert_fault(path, "broken or cut off")


@settings(deadline=None)
@given(position=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_damaged_parquet_file_never_raises_anything_else(position: int, byte: int):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.parquet"
        pq.write_table(pa.table({"text": ["one", "two", "three"], "id": [1, 2, 3]}), path)
        data = bytearray(path.read_bytes())
        data[position % len(data)] = byte
        path.write_bytes(data)
        with contextlib.suppress(CorpusError):
            assert len(list(read_corpus(path))) <= 3


def test_no_permission():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = write_jsonl(folder / "c.jsonl", [{"text": "a"}])
        path.chmod(0)
        with as_nobody():
            assert_fault(path, "no permission to read this file")
        folder.chmod(0)
        with as_nobody():
            assert_fault(path, "no permission to read this file")
        folder.chmod(0o755)


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: be somebody else for a moment."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


def assert_fault(path: Path, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as fault:
        corpus_facts(path)
    sentence = str(fault.value)
    assert sentence.startswith(str(path))
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < len(str(path)) + 300


def tokenize(text: str) -> list[int]:
    return [ord(character) for character in text]


def brute_force(documents: list[Document], context: int, max_tokens: int | None) -> list[tuple[object, ...]]:
    """Every window of every document; then those before which fewer than max_tokens had been seen."""
    windows = [
        (document.id, document.source, offset, tokenize(document.text)[offset : offset + context])
        for document in documents
        for offset in range(len(document.text))
        if offset % context == 0
    ]
    seen_before = [sum(len(window[3]) for window in windows[:number]) for number in range(len(windows))]
    return [
        (number, *window)
        for number, (window, seen) in enumerate(zip(windows, seen_before, strict=True))
        if max_tokens is None or seen < max_tokens
    ]


@given(
    documents=st.lists(st.builds(Document, id=LABELS, source=LABELS, text=st.text(max_size=20)), max_size=6),
    context=st.integers(1, 9),
    max_tokens=st.none() | st.integers(1, 60),
)
def test_contexts_match_brute_force(documents: list[Document], context: int, max_tokens: int | None):
    contexts = list(cut_contexts(documents, tokenize, context, max_tokens))
    assert [as_tuple(one) for one in contexts] == brute_force(documents, context, max_tokens)
    assert all(one.token_ids.dtype == np.int32 and one.token_ids.base is None for one in contexts)


def as_tuple(one: Context) -> tuple[object, ...]:
    return one.number, one.document_id, one.source, one.offset, one.token_ids.tolist()


def test_no_document_is_asked_for_once_there_are_enough_tokens():
    def documents() -> Iterator[Document]:
        yield Document("1", "s", "abcdef")
        pytest.fail("asked for a second document")

    assert [len(one.token_ids) for one in cut_contexts(documents(), tokenize, 4, max_tokens=5)] == [4, 2]


@pytest.mark.parametrize(("context", "max_tokens"), [(0, None), (-1, 5), (4, 0)])
def test_sizes_below_one_are_refused(context: int, max_tokens: int | None):
    with pytest.raises(SettingsError, match=re.escape(f"context ({context}) and max_tokens ({max_tokens})")):
        next(cut_contexts([Document("1", "s", "a")], tokenize, context, max_tokens))
