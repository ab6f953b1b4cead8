"""Zip files, which torch and numpy put tensors into: what is in them, if all readers would agree on that."""

import struct
import zipfile
from pathlib import Path

MAX_TABLE_BYTES = 1 << 20  # of the table of contents: some thousand entries
_END, _LOCATOR, _END_64 = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"
_END_SIZE, _END_64_SIZE = 22, 22 + 20 + 56


def zip_entries(file: Path) -> list[zipfile.ZipInfo]:
    """The table of contents. Raises ValueError, also on what libraries do not write, and readers differ on."""
    _check_end(file)
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
    except Exception as error:  # of many kinds, over a damaged file
        raise ValueError(str(error)) from error
    if len({entry.filename for entry in entries}) != len(entries):
        raise ValueError("two of its entries have the same name")
    return entries


def _check_end(file: Path) -> None:
    """The table of contents ends where the end record begins, with which the file ends.

    Files with a comment or with something put before them can show one reader this table, and another that.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        stream.seek(max(0, size - _END_64_SIZE))
        tail = stream.read(_END_64_SIZE)
    if len(tail) < _END_SIZE or tail[-_END_SIZE:][:4] != _END:
        raise ValueError("it does not end as a zip file")
    length, start, comment = struct.unpack("<IIH", tail[-10:])
    end = size - _END_SIZE
    if tail[-_END_SIZE - 20 :][:4] == _LOCATOR:
        end = size - _END_64_SIZE
        (place,) = struct.unpack("<Q", tail[-_END_SIZE - 12 :][:8])
        if len(tail) < _END_64_SIZE or place != end or tail[:4] != _END_64:
            raise ValueError("it does not end as a zip file")
        length, start = struct.unpack("<QQ", tail[40:56])
    if comment or start + length != end or length > MAX_TABLE_BYTES:
        raise ValueError("its table of contents is not where it should be, or too large")
