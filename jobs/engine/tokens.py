"""A corpus as tokens on disk: cut once, then read by number, in any order, by shards and by what comes after them.

Folder: ``ids.i32`` (all windows end to end), ``windows.npy`` (start, length, document, offset of each, int64 [n, 4]),
``documents.jsonl`` (id and source of each) with ``documents.npy`` (where each line begins, int64).
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self, overload

import numpy as np

from jobs.engine.corpus import Context, cut_contexts, read_corpus


class TokenisedCorpus(Sequence[Context]):
    """The windows of a corpus. Memory: 40 bytes a window; ids stay on disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._windows = np.load(folder / "windows.npy")
        self._lines = np.load(folder / "documents.npy")
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
    windows: list[tuple[int, int, int, int]] = []
    lines: list[int] = []
    written = 0
    with (folder / "ids.i32").open("wb") as ids, (folder / "documents.jsonl").open("wb") as documents:
        # A window at offset 0 begins a document, so two neighbours with one id stay apart.
        for context in contexts:
            if context.offset == 0:
                lines.append(documents.tell())
                documents.write(json.dumps([context.document_id, context.source]).encode() + b"\n")
            windows.append((written, len(context.token_ids), len(lines) - 1, context.offset))
            ids.write(context.token_ids.astype("<i4").tobytes())
            written += len(context.token_ids)
            if len(windows) % 256 == 0:
                yield written
    np.save(folder / "windows.npy", np.array(windows, np.int64).reshape(-1, 4))
    np.save(folder / "documents.npy", np.array(lines, np.int64))
