"""Files as streams of records, each of a bounded length: lines of JSON, and the objects of one array within an object.

No more than a record and a block of a file are in memory at once.
"""

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from jobs.transfer.faults import Broken, Refused

BLOCK = 1 << 20
MAX_RECORD = 16 << 20
MAX_RATIO = 400  # JSON becomes ten to thirty times smaller in gzip; what becomes so much smaller is no JSON
FREE = 64 << 20  # bytes that a file may unpack to whatever its ratio


_decoder = json.JSONDecoder()  # it lets NaN pass: whoever uses a number checks it


def blocks(file: BinaryIO) -> Iterator[bytes]:
    """The bytes of ``file``, unpacked if they are gzip. Raises Broken where the compressed data ends or fails."""
    block = file.read(BLOCK)
    if block[:2] == b"\x1f\x8b":
        yield from _unpacked(file, block)
        return
    while block:
        yield block
        block = file.read(BLOCK)


def _unpacked(file: BinaryIO, block: bytes) -> Iterator[bytes]:
    """One or more gzip members, end to end."""
    unpack, n_in, n_out = zlib.decompressobj(31), len(block), 0
    try:
        while block:
            made = unpack.decompress(block, BLOCK)
            n_out += len(made)
            if n_out > FREE + MAX_RATIO * n_in:
                raise Broken(f"it unpacks to more than {MAX_RATIO} times its size: no export does")
            if made:
                yield made
            block = unpack.unconsumed_tail
            if unpack.eof:
                block = unpack.unused_data.lstrip(b"\0")  # tar and some writers pad with zeros
            if not block and (block := file.read(BLOCK)):
                n_in += len(block)
            if unpack.eof and block:
                unpack = zlib.decompressobj(31)
    except zlib.error as error:
        raise Broken("its compressed data is damaged") from error
    if not unpack.eof:
        raise Broken("its compressed data ends too early: the file was not copied whole")


def lines(file: BinaryIO, skip: int = 0) -> Iterator[tuple[int, bytes | Refused]]:
    """Lines that hold anything, with their numbers from 1, behind the first ``skip``.

    A line of more than MAX_RECORD bytes is passed over and comes as a Refused. Raises Broken, behind the lines that
    could be read; a line that breaks off with the file's compressed data is not among them.
    """
    number, rest, too_long = 0, b"", False
    for block in blocks(file):
        pieces = (rest + block).split(b"\n")
        rest = pieces.pop()
        for piece in pieces:
            number += 1
            if number > skip and (too_long or piece.strip()):
                yield number, _too_long() if too_long or len(piece) > MAX_RECORD else piece
            too_long = False
        if too_long or len(rest) > MAX_RECORD:
            rest, too_long = b"", True
    if (rest.strip() or too_long) and number >= skip:
        yield number + 1, _too_long() if too_long else rest


def _too_long() -> Refused:
    return Refused(f"it is longer than {MAX_RECORD >> 20} MiB")


def parsed(line: bytes) -> dict[str, Any]:
    """The JSON object of a line. Raises Refused."""
    try:
        found = _decoder.decode(line.decode())
    except UnicodeDecodeError as error:
        raise Refused("it is not UTF-8") from error
    except RecursionError as error:
        raise Refused("its lists are nested too deeply") from error
    except ValueError as error:  # JSONDecodeError, and numbers of thousands of digits
        raise Refused(f"it is not JSON: {error}"[:200]) from error
    if not isinstance(found, dict):
        raise Refused("it is not a JSON object")
    return found


_DIVIDERS = frozenset(" \t\r\n,:]}")
_SPACE = re.compile(r"[ \t\r\n]*")


class ObjectReader:
    """Reads a file that is one JSON object of small values and one long array, whose elements come one by one."""

    def __init__(self, file: BinaryIO, array: str) -> None:
        self._blocks = blocks(file)
        self._array = array
        self._text, self._at = "", 0
        self._undecoded = b""
        self.facts: dict[str, Any] = {}

    def elements(self) -> Iterator[tuple[int, dict[str, Any] | Refused]]:
        """The array's objects with their numbers from 1. ``facts`` fills with the values that stand before it.

        Raises Broken where the file cannot be read any further.
        """
        self._expect("{", "it is not a JSON object")
        while True:
            name = self._value()
            if not isinstance(name, str):
                raise Broken("it is not a JSON object")
            self._expect(":", "it is not JSON")
            if name == self._array:
                break
            self.facts[name] = self._value()
            self._expect(",", f"it has no list {self._array}")
        self._expect("[", f"{self._array} is not a list")
        yield from self._objects()

    def _objects(self) -> Iterator[tuple[int, dict[str, Any] | Refused]]:
        number = 0
        if self._peek() == "]":
            return
        while True:
            number += 1
            value = self._value()
            yield number, value if isinstance(value, dict) else Refused("it is not a JSON object")
            if self._peek() == "]":
                return
            self._expect(",", f"it is not JSON behind element {number} of {self._array}")

    def _more(self) -> bool:
        """Put another block, or as much again as is waiting, at the end of the text."""
        wanted = max(BLOCK, len(self._text) - self._at)
        parts, n = [self._text[self._at :]], 0
        while n < wanted and (block := next(self._blocks, b"")):
            parts.append(self._decoded(block))
            n += len(block)
        self._text, self._at = "".join(parts), 0
        return n > 0

    def _decoded(self, block: bytes) -> str:
        """UTF-8, but for the first bytes of a character that the next block goes on with."""
        whole = self._undecoded + block
        try:
            self._undecoded = b""
            return whole.decode()
        except UnicodeDecodeError as error:
            if len(whole) - error.start > 3:
                raise Broken("it is not UTF-8") from error
            self._undecoded = whole[error.start :]
            return whole[: error.start].decode()

    def _peek(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            match = _SPACE.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _expect(self, character: str, why: str) -> None:
        found = self._peek()
        if found != character:
            raise Broken(why if found else "it ends too early: the file was not copied whole")
        self._at += 1

    def _value(self) -> Any:
        """The next value. What may go on behind the text is read again with more of it."""
        self._peek()
        while True:
            why = "it ends too early: the file was not copied whole"
            try:
                value, end = _decoder.raw_decode(self._text, self._at)
                if self._text[end : end + 1] in _DIVIDERS:  # a number that is cut off may be a number, too
                    self._at = end
                    return value
            except RecursionError as error:
                raise Broken("its lists are nested too deeply") from error
            except ValueError as error:
                why = f"it is not JSON, or ends too early: {error}"[:200]
            if len(self._text) - self._at > MAX_RECORD:
                raise Broken(f"one of its values is longer than {MAX_RECORD >> 20} MiB, or is not JSON")
            if not self._more():
                raise Broken(why)
