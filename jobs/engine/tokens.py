"""A corpus as tokens on disk: cut once, then read by number, in any order, by shards and by what comes after them.

Folder: ``ids.i32`` (all windows end to end), ``windows.i64`` (start, length, document, offset of each, [n, 4]),
``documents.jsonl`` (id and source of each) with ``documents.i64`` (where each line begins).
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

from jobs.engine.corpus import Context, cut_contexts, read_corpus
from jobs.engine.errors import CorpusError


class TokenisedCorpus(Sequence[Context]):
    """The windows of a corpus. Everything stays on disk, so memory does not grow with the corpus."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._windows = np.memmap(folder / "windows.i64", dtype="<i8", mode="r").reshape(-1, 4)
        self._lines = np.memmap(folder / "documents.i64", dtype="<i8", mode="r")
        self._ids = np.memmap(folder / "ids.i32", dtype="<i4", mode="r")

    @classmethod
    def build(
        cls,
        folder: Path,
        corpus: str | Path,
        tokenize: Callable[[str], Sequence[int]],
        context: int,
        max_tokens: int | None = None,
    ) -> Iterator[int | Self]:
        """Yield the number of tokens written, now and then, and at last the TokenisedCorpus.

        A folder that is complete is read as it is. Raises CorpusError.
        """
        if not folder.is_dir():
            scratch = folder.with_name(f".{folder.name}.partial")
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            yield from _write(scratch, cut_contexts(read_corpus(corpus), tokenize, context, max_tokens))
            scratch.rename(folder)
        yield cls(folder)

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def n_tokens(self) -> int:
        return len(self._ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every window."""
        return np.asarray(self._windows[:, 1])

    @overload
    def __getitem__(self, number: int) -> Context: ...
    @overload
    def __getitem__(self, number: slice) -> list[Context]: ...
    def __getitem__(self, number: int | slice) -> Context | list[Context]:
        if isinstance(number, slice):
            return [self[i] for i in range(*number.indices(len(self)))]
        start, length, document, offset = (int(v) for v in self._windows[number])
        with (self.folder / "documents.jsonl").open("rb") as file:
            file.seek(int(self._lines[document]))
            name, source = json.loads(file.readline())
        return Context(number, name, source, offset, np.array(self._ids[start : start + length]))


def _write(folder: Path, contexts: Iterator[Context]) -> Iterator[int]:
    written = n_documents = 0
    with ExitStack() as files:
        ids, windows, documents, lines = (
            files.enter_context((folder / name).open("wb"))
            for name in ("ids.i32", "windows.i64", "documents.jsonl", "documents.i64")
        )
        # A window at offset 0 begins a document, so two neighbours with one id stay apart.
        for context in contexts:
            if context.offset == 0:
                lines.write(np.array([documents.tell()], "<i8").tobytes())
                documents.write(json.dumps([context.document_id, context.source]).encode() + b"\n")
                n_documents += 1
            row = (written, len(context.token_ids), n_documents - 1, context.offset)
            windows.write(np.array(row, "<i8").tobytes())
            ids.write(context.token_ids.astype("<i4").tobytes())
            written += len(context.token_ids)
            if context.number % 256 == 255:
                yield written
    if not written:
        raise CorpusError("The corpus has no text that makes a token.")
