"""A ZIP of which every byte is decided by the files in it: the same files always give the same bytes.

All members are stored as they are, in the order given, of 1980-01-01, without folders, comments or extra fields. Only
what `pack` would have written is read, by a parser that never unpacks anything: no byte can be changed unseen, and no
small file becomes a large one. Layout: APPNOTE.TXT of PKWARE, 4.3.7 (header), 4.3.12 (directory), 4.3.16 (end).
"""

import re
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, islice
from typing import NamedTuple

LIMIT = 64 << 20  # bytes
MEMBERS = 64
NAME = re.compile(r"(?=.{1,100}\Z)[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?")
"""At most one folder. Neither absolute nor .., since every part begins with a letter or a digit."""

_MEMBER, _LISTED, _LAST = b"PK\3\4", b"PK\1\2", b"PK\5\6"  # with what the three of them begin
_HEADER = struct.Struct("<4s5H3L2H")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION, _UTF8, _STORED, _TIME, _DATE = 20, 0x0800, 0, 0, 0x0021  # 1980-01-01, the first date that a ZIP can say

# What stands in these, in words, and how many bytes each has.
Fields = tuple[tuple[str, int], ...]
_COMMON: Fields = (
    *(("version", 2), ("flags", 2), ("method of compression", 2), ("time", 2), ("date", 2), ("checksum", 4)),
    *(("packed size", 4), ("size", 4), ("length of name", 2), ("length of extra fields", 2)),
)
_ATTRIBUTES: Fields = (("length of comment", 2), ("disk", 2), ("attributes", 6), ("offset", 4))
_IN_HEADER: Fields = (("signature", 4), *_COMMON, ("name", 1 << 16))
_IN_ENTRY: Fields = (("signature", 4), ("version of the writer", 2), *_COMMON, *_ATTRIBUTES, ("name", 1 << 16))
_IN_END: Fields = (
    *(("signature", 4), ("disk", 2), ("disk of the directory", 2), ("number of files on the disk", 2)),
    *(("number of files", 2), ("size of the directory", 4), ("offset of the directory", 4), ("length of comment", 2)),
)


class Damaged(ValueError):
    """Bytes that `pack` would not have written. The message is one sentence that names the member or the part."""


def pack(files: Mapping[str, bytes]) -> bytes:
    """Raises ValueError for names, numbers and sizes that `unpack` would refuse."""
    if len(files) > MEMBERS:
        raise ValueError(f"{len(files)} files are more than the {MEMBERS} that an archive holds.")
    if wrong := [name for name in files if not NAME.fullmatch(name)]:
        raise ValueError(f"{wrong[0]!r} cannot be the name of a file in an archive.")
    parts: list[bytes] = []
    entries: list[bytes] = []
    at = 0
    for name, data in files.items():
        about = name.encode(), zlib.crc32(data), len(data)
        entries.append(_entry(*about, at))
        parts += [_header(*about), data]
        at += len(parts[-2]) + len(data)
    directory = b"".join(entries)
    packed = b"".join([*parts, directory, _end(len(files), len(directory), at)])
    if len(packed) > LIMIT:
        raise ValueError(f"{len(packed):,} bytes are more than the {LIMIT:,} that an archive may have.")
    return packed


def unpack(data: bytes) -> dict[str, bytes]:
    """The files of which `pack` makes ``data``. Raises Damaged."""
    found = diagnose(data)
    if found.faults:
        raise Damaged(found.faults[0])
    return found.files


@dataclass(frozen=True)
class Diagnosis:
    """What can be read of an archive, and one sentence for each part that is not as `pack` would write it; without any,
    `pack` gives just these bytes. ``changed`` has the names of the files whose contents have another checksum.
    """

    files: dict[str, bytes]
    faults: list[str]
    changed: frozenset[str]


def diagnose(data: bytes, known: Collection[str] = ()) -> Diagnosis:
    """``data`` as far as it can be read, whatever it is.

    What is said of a file stands there twice, before it and in the directory, so if one of the two was changed, the
    other one tells. Where both have names and they differ, one that is in ``known`` counts.
    """
    if len(data) > LIMIT:
        return Diagnosis({}, [f"It has {len(data):,} bytes, more than the {LIMIT:,} of an archive."], frozenset())
    places, problem = _places(data)
    faults = [problem] if problem else []
    files: dict[str, bytes] = {}
    changed: set[str] = set()
    for place, name in zip(places, _names(data, places, known), strict=True):
        content = data[place.start : place.end]
        if name in files:
            faults.append(f"A second file at byte {place.at} is called {name}.")
        of_content, of_rest = _member_faults(data, place, name, content)
        changed |= {name} if of_content else set()
        faults += of_rest + of_content
        files.setdefault(name, content)
    faults += [] if problem else _end_faults(data, places)
    if not faults and pack(files) != data:
        faults.append("Some part of the archive is not as it was written.")  # none is known that is not named above
    return Diagnosis(files, faults, frozenset(changed))


class _Place(NamedTuple):
    """Where a member begins, where its contents begin and end, and where its entry in the directory is; -1: unknown."""

    at: int
    start: int
    end: int
    entry: int

    @property
    def name_length(self) -> int:
        return self.start - self.at - _HEADER.size


def _places(data: bytes) -> tuple[list[_Place], str]:
    """The members, and what is wrong if neither the directory nor the headers say where all of them are: one changed
    byte leaves one of the two whole.
    """
    listed = _by_directory(data)
    if listed and _fill(data, listed):
        return listed, ""
    found, problem = _by_headers(data)
    if not problem:
        return found, ""
    both: list[_Place] = []
    for place in [each for each in listed if data.startswith(_MEMBER, each.at)] + found:
        # None lies in another one, so what is read is never more than the file, whatever it says.
        if all(place.end <= other.at or place.at >= other.end for other in both):
            both.append(place)
    return sorted(both), problem


def _fill(data: bytes, places: Sequence[_Place]) -> bool:
    """Whether the members lie end to end, then their entries, then the end of the archive, and nothing else."""
    at = 0
    for place in places:
        if place.at != at:
            return False
        at = place.end
    for place in places:
        if place.entry != at:
            return False
        at += _ENTRY.size + place.name_length
    return at + _END.size == len(data)


def _by_directory(data: bytes) -> list[_Place]:
    """The members as far as the directory can be read."""
    if len(data) < _END.size:
        return []
    _, _, _, _, _, size, at, _ = _END.unpack_from(data, len(data) - _END.size)
    if not data.startswith(_LISTED, at):  # where the directory begins stands there twice, too
        at = max(0, len(data) - _END.size - size)
    places: list[_Place] = []
    while len(places) < MEMBERS and at + _ENTRY.size <= len(data) and data.startswith(_LISTED, at):
        fields = _ENTRY.unpack_from(data, at)
        size, length, begin = fields[8], fields[10], fields[16]
        start = begin + _HEADER.size + length
        if start + size > len(data):
            break
        places.append(_Place(begin, start, start + size, at))
        at += _ENTRY.size + length
    return places


def _by_headers(data: bytes) -> tuple[list[_Place], str]:
    """The members by what stands before each, and the first thing that is wrong. Behind that, by the next signature."""
    places = list(islice(_walk(data, 0), MEMBERS + 1))
    at = places[-1].end if places else 0
    entries = accumulate((_ENTRY.size + place.name_length for place in places), initial=at)
    placed = [place._replace(entry=entry) for place, entry in zip(places, entries, strict=False)]
    if len(places) <= MEMBERS and _fill(data, placed):
        return placed, ""
    problem = _problem(data, places, at)
    for _ in range(MEMBERS):  # no more attempts than that, however often the signature is there
        if (at := data.find(_MEMBER, at)) < 0:
            break
        further = list(islice(_walk(data, at), max(0, MEMBERS - len(places))))
        places += further
        at = further[-1].end if further else at + 1
    return places, problem


def _walk(data: bytes, at: int) -> Iterator[_Place]:
    """The members that lie end to end from byte ``at`` on."""
    while data.startswith(_MEMBER, at) and at + _HEADER.size <= len(data):
        fields = _HEADER.unpack_from(data, at)
        start = at + _HEADER.size + fields[9]
        if start + fields[7] > len(data):
            return
        yield _Place(at, start, start + fields[7], -1)
        at = start + fields[7]


def _problem(data: bytes, places: Sequence[_Place], at: int) -> str:
    """Why ``places``, of which the last one ends before byte ``at``, are not the members of an archive."""
    if len(places) > MEMBERS:
        return f"There are more than {MEMBERS} files in it."
    if data.startswith(_MEMBER, at):
        if at + _HEADER.size > len(data):
            return f"The archive was cut off in the header at byte {at}."
        fields = _HEADER.unpack_from(data, at)
        name = _shown(data[at + _HEADER.size : at + _HEADER.size + fields[9]])
        return f"The header of {name}, at byte {at}, speaks of {fields[7]:,} bytes, and fewer follow."
    if data.startswith(_LISTED, at):
        more = len(data) - at - _END.size - sum(_ENTRY.size + place.name_length for place in places)
        wrong = f"has {more:,} bytes too many" if more > 0 else f"was cut off: {-more:,} bytes are missing"
        return f"The directory with the end of the archive, from byte {at} on, {wrong}."
    after = f", after {_shown(data[places[-1].at + _HEADER.size : places[-1].start])}" if places else ""
    return f"At byte {at}{after}, there is neither a file nor the directory."


def _names(data: bytes, places: Sequence[_Place], known: Collection[str]) -> list[str]:
    """As headers and entries say; where the two do not agree, as the one says that is likelier to be right."""
    pairs = []
    for place in places:
        names = [_shown(data[place.at + _HEADER.size : place.start])]
        if place.entry >= 0:
            begin = place.entry + _ENTRY.size
            names.append(_shown(data[begin : begin + place.name_length]))
        pairs.append(names)
    taken = {names[0] for names in pairs if len(set(names)) == 1}

    def likely(name: str) -> tuple[bool, ...]:
        return name not in taken, name in known, NAME.fullmatch(name) is not None

    return [max(names, key=likely) for names in pairs]


def _member_faults(data: bytes, place: _Place, name: str, content: bytes) -> tuple[list[str], list[str]]:
    """What is wrong with the contents of a member, and with what stands about it before it and in the directory."""
    if not NAME.fullmatch(name):
        return [], [f"{name}, at byte {place.at}, cannot be the name of a file in an archive."]
    header = data[place.at : place.start]
    entry = data[place.entry : place.entry + _ENTRY.size + place.name_length] if place.entry >= 0 else b""
    crc = zlib.crc32(content)
    said = [_HEADER.unpack_from(header)[6]] + ([_ENTRY.unpack_from(entry)[7]] if entry else [])
    wrong = []
    if crc not in said:
        crc = said[0]
        where = f"bytes {place.start} to {place.end - 1} of the archive"
        wrong = [f"{name} was changed: {where} have another checksum than they had."]
    about = name.encode(), crc, len(content)
    parts = [(f"header of {name}", place.at, header, _header(*about), _IN_HEADER)]
    if entry:
        parts.append((f"directory's entry of {name}", place.entry, entry, _entry(*about, place.at), _IN_ENTRY))
    return wrong, [_difference(*part) for part in parts if part[2] != part[3]]


def _end_faults(data: bytes, places: Sequence[_Place]) -> list[str]:
    at = len(data) - _END.size
    begin = places[-1].end if places else 0
    end = _end(len(places), at - begin, begin)
    return [] if data[at:] == end else [_difference("end of the archive", at, data[at:], end, _IN_END)]


def _difference(part: str, at: int, there: bytes, right: bytes, fields: Fields) -> str:
    """In which of its fields a part is not what it has to be; ``there`` and ``right`` have one length."""
    first = next(i for i, (a, b) in enumerate(zip(there, right, strict=True)) if a != b)
    names, begin = [], 0
    for name, size in fields:
        if there[begin : begin + size] != right[begin : begin + size]:
            names.append(name)
        begin += size
    verb = "is" if len(names) == 1 else "are"
    return f"The {part} was changed at byte {at + first}: its {', '.join(names)} {verb} not what it has to be."


def _shown(name: bytes) -> str:
    """A name as text; one that cannot be, in quotes, and never too long for a sentence nor with what moves a cursor."""
    text = name[:200].decode("utf-8", "replace")
    return text if NAME.fullmatch(text) else ascii(text[:100])


def _header(name: bytes, crc: int, size: int) -> bytes:
    fixed = (_VERSION, _UTF8, _STORED, _TIME, _DATE, crc, size, size, len(name), 0)
    return _HEADER.pack(_MEMBER, *fixed) + name


def _entry(name: bytes, crc: int, size: int, at: int) -> bytes:
    """A member in the directory. No attributes: whoever unpacks it gives the file those that new files have."""
    fixed = (_VERSION, _VERSION, _UTF8, _STORED, _TIME, _DATE, crc, size, size, len(name))
    return _ENTRY.pack(_LISTED, *fixed, 0, 0, 0, 0, 0, at) + name


def _end(n: int, size: int, at: int) -> bytes:
    return _END.pack(_LAST, 0, 0, n, n, size, at, 0)
