"""A .zip as a stream: whatever it holds, no more than a block of it is in memory."""

import io
import zipfile
from collections.abc import Iterable, Iterator

from jobs.transfer.out import Member


class _Sink(io.RawIOBase):
    """What is written waits here to be taken."""

    def __init__(self) -> None:
        self.waiting: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, block: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override]
        self.waiting.append(bytes(block))
        return len(block)

    def take(self) -> bytes:
        taken, self.waiting = b"".join(self.waiting), []
        return taken


def zipped(members: Iterable[Member]) -> Iterator[bytes]:
    """The members stay as they are: what is large among them is gzip already."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for name, blocks in members:
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=True) as file:
                for block in blocks:
                    file.write(block)
                    yield sink.take()
    yield sink.take()
