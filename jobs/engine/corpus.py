"""Corpus files: read them one document at a time, and cut the documents into contexts.

A corpus is a file that somebody uploaded: whatever is wrong with it ends in one CorpusError that says where.
"""

import gzip
import hashlib
import json
import re
import stat
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, AnyStr

import numpy as np
from numpy.typing import NDArray

from jobs.engine.errors import CorpusError, SettingsError

MAX_DOCUMENT_BYTES = 32 * 2**20
MAX_LABEL = 200  # characters of an id or a source
_PARQUET_ROWS = 64
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a corpus, with the name it has there and where it comes from."""

    id: str
    source: str
    text: str


@dataclass(frozen=True, slots=True)
class CorpusFacts:
    """What a corpus file is: ``digest`` is the sha256 of its bytes in hex, ``n_bytes`` its size on the disk."""

    digest: str
    n_documents: int
    n_bytes: int


@dataclass(frozen=True, slots=True)
class Context:
    """One window of a document. ``token_ids``: int32 [at most context]; ``offset``: its first token's index there."""

    number: int
    document_id: str
    source: str
    offset: int
    token_ids: NDArray[np.int32]


def read_corpus(path: str | Path) -> Iterator[Document]:
    """The documents of a .jsonl, .jsonl.gz, .txt or .parquet file in order, one in memory at a time.

    A .txt file is one document. In the others ``text`` is needed; without ``id`` a document is called by its line or
    row (from 1), without ``source`` by the file's name. Blank texts are skipped. Lone surrogates become U+FFFD.
    Raises CorpusError: at once if the file cannot be a corpus, while iterating if its content is at fault, and at the
    end if there was no text.
    """
    path = Path(path)
    suffixes = ", ".join(_READERS)
    try:
        mode = path.stat().st_mode
    except PermissionError as error:
        raise CorpusError(f"{path}: no permission to read this file.") from error
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: there is no such file.") from error
    if not stat.S_ISREG(mode):
        raise CorpusError(f"{path}: this is not a file; give a file that ends in one of {suffixes}.")
    for suffix, reader in _READERS.items():
        if path.name.lower().endswith(suffix):
            return _with_text(path, reader)
    raise CorpusError(f"{path}: this is no known kind of corpus; give a file that ends in one of {suffixes}.")


def corpus_facts(path: str | Path) -> CorpusFacts:
    """Digest, number of documents with text, and size. Reads the whole file; raises CorpusError for any fault in it."""
    path = Path(path)
    n_documents = sum(1 for _ in read_corpus(path))
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return CorpusFacts(digest=digest, n_documents=n_documents, n_bytes=file.tell())


def cut_contexts(
    documents: Iterable[Document],
    tokenize: Callable[[str], Sequence[int]],
    context: int,
    max_tokens: int | None = None,
) -> Iterator[Context]:
    """Cut each document into consecutive windows of ``context`` tokens, the last one as short as it comes.

    Windows are numbered from 0 over the whole corpus and never cross documents. Stops after the window with which
    ``max_tokens`` is reached, without asking for another document. Raises SettingsError for a size below 1.
    """
    if context < 1 or (max_tokens is not None and max_tokens < 1):
        raise SettingsError(f"context ({context}) and max_tokens ({max_tokens}) must be at least 1.")
    number = n_tokens = 0
    for document in documents:
        token_ids = np.asarray(tokenize(document.text), dtype=np.int32)
        for offset in range(0, len(token_ids), context):
            window = token_ids[offset : offset + context].copy()  # a kept window must not keep its whole document
            yield Context(number, document.id, document.source, offset, window)
            number += 1
            n_tokens += len(window)
            if max_tokens is not None and n_tokens >= max_tokens:
                return


def _with_text(path: Path, reader: Callable[[Path], Iterator[Document]]) -> Iterator[Document]:
    found = False
    try:
        for document in reader(path):
            if document.text.strip():
                found = True
                yield document
    except PermissionError as error:
        raise CorpusError(f"{path}: no permission to read this file.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise CorpusError(f"{path}: the file is broken or cut off ({_short(error)}).") from error
    if not found:
        raise CorpusError(f"{path}: there is no text in this corpus.")


def _read_txt(path: Path) -> Iterator[Document]:
    with path.open("rb") as file:
        text = _decode(_limited(file.read(MAX_DOCUMENT_BYTES + 1), str(path)), str(path))
    yield _document(path, "1", {"text": text.removeprefix("\ufeff")}, str(path))


def _read_jsonl(path: Path) -> Iterator[Document]:
    with path.open("rb") as file:
        yield from _read_lines(path, file)


def _read_jsonl_gz(path: Path) -> Iterator[Document]:
    with gzip.open(path, "rb") as file:
        yield from _read_lines(path, file)


def _read_lines(path: Path, file: IO[bytes] | gzip.GzipFile) -> Iterator[Document]:
    number = 0
    while line := file.readline(MAX_DOCUMENT_BYTES + 1):
        number += 1
        where = f"{path}, line {number}"
        text = _decode(_limited(line, where), where)
        if number == 1:
            text = text.removeprefix("\ufeff")  # a byte order mark, as some editors write
        if not text.strip():
            continue
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            raise CorpusError(f"{where}: this is not JSON ({error.msg} at character {error.colno}).") from error
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where}: this JSON cannot be read ({_short(error)}).") from error
        if not isinstance(row, dict):
            raise CorpusError(f'{where}: a line is an object such as {{"text": "..."}}, this is {_kind(row)}.')
        yield _document(path, str(number), row, where)


def _read_parquet(path: Path) -> Iterator[Document]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with path.open("rb") as raw, pq.ParquetFile(raw) as file:
            names = file.schema_arrow.names
            if names.count("text") != 1:
                raise CorpusError(f"{path}: a parquet corpus needs one column called text; this one has {names[:10]}.")
            columns = [name for name in ("text", "id", "source") if names.count(name) == 1]
            for batch in file.iter_batches(batch_size=_PARQUET_ROWS, columns=columns):
                for row in batch.to_pylist():
                    number += 1
                    yield _document(path, str(number), row, f"{path}, row {number}")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}, after row {number}: the text is not UTF-8.") from error
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise CorpusError(f"{path}: the parquet file is broken or cut off ({_short(error)}).") from error


_READERS: dict[str, Callable[[Path], Iterator[Document]]] = {
    ".jsonl": _read_jsonl,
    ".jsonl.gz": _read_jsonl_gz,
    ".txt": _read_txt,
    ".parquet": _read_parquet,
}


def _document(path: Path, number: str, row: dict[str, Any], where: str) -> Document:
    text = row.get("text")
    if not isinstance(text, str):
        fault = "is missing" if text is None else f"is {_kind(text)}"
        raise CorpusError(f"{where}: `text` {fault}; it must be a string.")
    return Document(
        id=_label(row.get("id"), "id", where) or number,
        source=_label(row.get("source"), "source", where) or _label(path.name, "source", where),
        text=_SURROGATE.sub("\ufffd", _limited(text, where)),
    )


def _label(value: object, field: str, where: str) -> str:
    """An id or source as a string that a database column takes; empty if there is none."""
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        raise CorpusError(f"{where}: `{field}` is {_kind(value)}; it must be a string or a number.")
    if isinstance(value, bool):
        value = str(value).lower()  # as JSON spells it
    return _SURROGATE.sub("\ufffd", str(value)[:MAX_LABEL]).replace("\0", "\ufffd")


def _limited(data: AnyStr, where: str) -> AnyStr:
    if len(data) > MAX_DOCUMENT_BYTES:
        raise CorpusError(f"{where}: one document is at most {MAX_DOCUMENT_BYTES // 2**20} MiB; cut it into several.")
    return data


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise CorpusError(f"{where}: this is not UTF-8 (byte {error.start} cannot be read).") from error


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", bytes: "bytes", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}")


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200].rstrip(".")
