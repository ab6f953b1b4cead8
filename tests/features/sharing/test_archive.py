"""The archive: one form for the same files, nothing else read, and every part of it named when it was changed."""

import io
import random
import struct
import subprocess
import time
import tracemalloc
import warnings
import zipfile
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.sharing.archive import LIMIT, MEMBERS, NAME, Damaged, diagnose, pack, unpack

FILES = {"snapshot.json": b'{"a":1}', "page.html": b"<p>", "figures/a.svg": b"<svg/>", "empty": b""}
names = st.from_regex(NAME, fullmatch=True)
folders = st.dictionaries(names, st.binary(max_size=50), max_size=6)


class Named(zipfile.ZipInfo):
    def _encodeFilenameFlags(self):
        """All names are said to be UTF-8; zipfile says so of those alone that are not ASCII."""
        return self.filename.encode(), self.flag_bits | 0x800


def zipped(files, method=zipfile.ZIP_STORED, date=(1980, 1, 1, 0, 0, 0), **changes) -> bytes:
    """As zipfile packs it: ``files`` are pairs of names and contents, ``changes`` what it says of them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, warnings.catch_warnings(action="ignore"):  # of a name that is twice
        for name, data in files:
            archive.writestr(Named(name, date), data, method)
        for info in archive.filelist:  # the directory is written when the archive is closed
            for field, value in {"create_system": 0, "external_attr": 0, **changes}.items():
                setattr(info, field, value)
    return buffer.getvalue()


def headed(data, at, fmt, *values) -> bytes:
    """An archive of the one file "a", with what stands ``at`` a place of its header written in its entry, too."""
    changed = bytearray(data)
    struct.pack_into(fmt, changed, at, *values)
    struct.pack_into(fmt, changed, changed.rfind(b"PK\1\2") + at + 2, *values)
    return bytes(changed)


@given(folders)
def test_files_come_back_in_their_order(files):
    packed = pack(files)
    assert list(unpack(packed).items()) == list(files.items())
    assert pack(unpack(packed)) == packed


def test_any_program_reads_it():
    with zipfile.ZipFile(io.BytesIO(pack(FILES))) as archive:
        assert archive.testzip() is None
        assert {info.filename: archive.read(info) for info in archive.infolist()} == FILES
        assert all(info.date_time == (1980, 1, 1, 0, 0, 0) for info in archive.infolist())


def test_info_zip_reads_it(tmp_path):
    (tmp_path / "a.zip").write_bytes(pack(FILES))
    try:
        said = subprocess.run(["unzip", "-tqq", tmp_path / "a.zip"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("unzip is not installed")
    assert (said.returncode, said.stdout) == (0, "")


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "/etc/passwd", "../../etc/passwd", "a/../b", "a//b", "a/b/c", "a/", "a\\b", "C:/a"),
        *("A", "a b", "é", "a\n", "a\0", ".hidden", "-rf", "a/.b", "x" * 101, "a\u202eb"),
    ],
)
def test_names_that_could_do_harm_are_neither_written_nor_read(name):
    with pytest.raises(ValueError, match="cannot be the name"):
        pack({name: b""})
    if name and "\0" not in name:  # zipfile writes neither
        with pytest.raises(Damaged, match="cannot be the name"):
            unpack(zipped([(name, b"")]))


def test_limits_hold_for_writing_and_reading():
    assert len(unpack(pack({f"f{n}": b"" for n in range(MEMBERS)}))) == MEMBERS
    with pytest.raises(ValueError, match="more than the 64"):
        pack({f"f{n}": b"" for n in range(MEMBERS + 1)})
    with pytest.raises(Damaged, match="more than 64 files"):
        unpack(zipped([(f"f{n}", b"") for n in range(MEMBERS + 1)]))
    with pytest.raises(ValueError, match="more than the 67,108,864"):
        pack({"f": bytes(LIMIT)})
    with pytest.raises(Damaged, match="more than the 67,108,864"):
        unpack(bytes(LIMIT + 1))
    most = pack({"f": bytes(LIMIT - 30 - 46 - 22 - 2)})
    assert len(most) == LIMIT
    assert list(unpack(most)) == ["f"]


def test_zipfile_can_write_the_same_bytes():
    """So what is refused below is refused for what was changed, not for how it was made."""
    assert zipped(FILES.items()) == PACKED


def overlapping() -> bytes:
    """64 entries for one large file, which read one by one would be 64 times as much."""
    one = pack({"a": bytes(LIMIT // 16)})
    at = len(one) - 22 - 47
    entry = one[at:-22]
    return one[:at] + entry * MEMBERS + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 64, 64, 64 * 47, at, 0)


def streamed() -> bytes:
    """Sizes behind the contents, as programs write that do not know them before."""

    class Pipe(io.RawIOBase):
        def __init__(self):
            self.data = b""

        def writable(self):
            return True

        def write(self, data):
            self.data += bytes(data)
            return len(data)

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w") as archive:
        archive.writestr(zipfile.ZipInfo("a"), b"1234")
    return pipe.data


def zip64() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open(zipfile.ZipInfo("a"), "w", force_zip64=True) as file:
        file.write(b"1234")
    return buffer.getvalue()


PACKED = pack(FILES)
HOSTILE = {
    "deflated": (zipped([("a", bytes(1000))], zipfile.ZIP_DEFLATED), "header of a .*method of compression"),
    "bomb": (zipped([("a", bytes(5_000_000))], zipfile.ZIP_DEFLATED), "header of a .*method of compression"),
    "bzip2": (zipped([("a", bytes(1000))], zipfile.ZIP_BZIP2), "header of a .*method of compression"),
    "encrypted": (headed(pack({"a": b"1"}), 6, "<H", 0x801), "header of a .*flags"),
    "dated": (zipped([("a", b"1")], date=(2024, 5, 6, 7, 8, 10)), "header of a .*time, date"),
    "extra": (zipped([("a", b"1")], extra=b"UT\x05\x00\x03abcd"), "bytes too many"),
    "comment": (zipped([("a", b"1")], comment=b"hello"), "bytes too many"),
    "attributes": (zipped([("a", b"1")], external_attr=0o777 << 16), "entry of a .*attributes"),
    "unix": (zipped([("a", b"1")], create_system=3), "entry of a .*version of the writer"),
    "twice": (zipped([("a", b"1"), ("a", b"2")]), "second file at byte 32 is called a"),
    "folder": (zipped([("figures/", b"")]), "cannot be the name"),
    "climbing": (zipped([("../../etc/passwd", b"")]), "'../../etc/passwd', at byte 0, cannot be the name"),
    "zip64": (zip64(), "header of a, at byte 0, speaks of 4,294,967,295 bytes"),
    "streamed": (streamed(), "At byte 31, after a, there is neither"),
    "lying": (
        headed(pack({"a": b"1234"}), 18, "<2L", 0xFFFFFFFF, 0xFFFFFFFF),
        "header of a, at byte 0, speaks of 4,294,967,295 bytes",
    ),
    "lying a little": (headed(pack({"a": b"1234"}), 18, "<2L", 5, 5), "At byte 36, after a, there is neither"),
    "overlapping": (overlapping(), "bytes too many"),
    "longer": (PACKED + b"\0", "1 bytes too many"),
    "shorter": (PACKED[:-1], "1 bytes are missing"),
    "moved": (b"\0" + PACKED, "At byte 0, there is neither"),
    "twice over": (PACKED + PACKED, "bytes too many"),
    "cut in a file": (PACKED[:46], "header of snapshot.json, at byte 0, speaks of 7 bytes"),
    "between": (PACKED[:50] + b"hidden" + PACKED[50:], "At byte 50, after snapshot.json"),
    "headers alone": (b"PK\3\4" * 1_000_000, "header of"),
    "entries alone": (b"PK\1\2" * 1_000_000, "At byte 0|too many"),
    "text": (b"hello, I am a text", "At byte 0"),
    "nothing": (b"", "At byte 0"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_pack_would_not_write_is_refused_by_a_sentence(kind):
    data, why = HOSTILE[kind]
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(Damaged, match=why) as caught:
        unpack(data)
    seconds, (_, most) = time.perf_counter() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value).endswith(".")
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()
    assert seconds < 2
    assert most < 3 * len(data) + (4 << 20)


def parts(files):
    """What each byte of the archive belongs to, by the sizes that the format says."""
    labels = []
    for name, data in files.items():
        labels += [f"The header of {name} "] * (30 + len(name)) + [f"{name} was changed: bytes"] * len(data)
    for name in files:
        labels += [f"The directory's entry of {name} "] * (46 + len(name))
    return labels + ["The end of the archive "] * 22


def test_each_changed_byte_is_found_and_its_part_is_named():
    labels = parts(FILES)
    assert len(labels) == len(PACKED)
    rng = random.Random(5)
    for at, label in enumerate(labels):
        for value in rng.sample(sorted({*range(256)} - {PACKED[at]}), 12):
            data = PACKED[:at] + bytes([value]) + PACKED[at + 1 :]
            found = diagnose(data, FILES)
            assert len(found.faults) == 1, (at, value, found.faults)
            assert found.faults[0].startswith(label), (at, value, found.faults)
            assert list(found.files) == list(FILES), (at, value)
            assert found.changed == ({label.split()[0]} if "was changed: bytes" in label else set())
            with pytest.raises(Damaged):
                unpack(data)


def test_a_name_that_became_another_one_is_named():
    packed = pack({"a": b"1", "b": b"2"})
    assert packed.count(b"a") == 2
    for at, part in ((packed.index(b"a"), "header"), (packed.rindex(b"a"), "directory's entry")):
        found = diagnose(packed[:at] + b"b" + packed[at + 1 :], {"a", "b"})
        assert found.files == {"a": b"1", "b": b"2"}
        assert found.faults == [f"The {part} of a was changed at byte {at}: its name is not what it has to be."]


def test_of_a_header_the_byte_and_the_field_are_named():
    data = bytearray(PACKED)
    data[8] = 8
    data[-1] = 7
    assert diagnose(bytes(data)).faults == [
        "The header of snapshot.json was changed at byte 8: its method of compression is not what it has to be.",
        f"The end of the archive was changed at byte {len(data) - 1}: its length of comment is not what it has to be.",
    ]


def test_several_changes_are_all_named():
    data = bytearray(PACKED)
    second = 30 + len("snapshot.json") + len(FILES["snapshot.json"])
    data[second + 22] ^= 1  # a size in the second header
    data[second + 18] ^= 1  # and the other one
    data[-22 + 16] ^= 1  # where the directory begins
    data[second - 1] ^= 1  # the end of the first file
    found = diagnose(bytes(data))
    assert found.changed == {"snapshot.json"}
    assert [fault.split(" was")[0] for fault in found.faults] == [
        "snapshot.json",
        "The header of page.html",
        "The end of the archive",
    ]


def test_files_are_read_even_if_neither_headers_nor_directory_are_whole():
    data = bytearray(PACKED)
    second = 30 + len("snapshot.json") + len(FILES["snapshot.json"])
    data[second] ^= 1  # the signature of the second header
    data[-22 - 46 - 5] ^= 1  # that of the last entry
    found = diagnose(bytes(data))
    assert found.files == {name: FILES[name] for name in FILES if name != "page.html"}
    assert found.faults == ["At byte 50, after snapshot.json, there is neither a file nor the directory."]


def test_files_behind_inserted_bytes_are_read():
    found = diagnose(PACKED[:50] + b"hidden" + PACKED[50:])
    assert found.files == FILES
    assert found.faults == ["At byte 50, after snapshot.json, there is neither a file nor the directory."]


@given(folders, st.randoms(use_true_random=False))
def test_archives_with_several_changes_are_refused(files, rng):
    data = bytearray(pack(files))
    for _ in range(rng.randrange(1, 5)):
        at = rng.randrange(len(data) + 1)
        change = rng.choice(["flip", "insert", "delete"])
        if change == "insert":
            data[at:at] = rng.choice([b"\0", b"PK\3\4", b"PK\1\2", rng.randbytes(5)])
        elif at < len(data):
            data[at : at + 1] = b"" if change == "delete" else bytes([data[at] ^ 1 << rng.randrange(8)])
    found = diagnose(bytes(data))
    assert (not found.faults) == (pack_or_none(found.files) == data)


def pack_or_none(files):
    try:
        return pack(files)
    except ValueError:
        return None


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data):
    try:
        files = unpack(data)
    except Damaged:
        return
    assert pack(files) == data


def test_a_file_that_looks_like_an_archive_is_a_file_like_others():
    inner = pack({"page.html": b"other"})
    files = {"a.zip": inner, "b": b"PK\3\4PK\1\2PK\5\6" + inner}
    assert unpack(pack(files)) == files
    data = bytearray(pack(files))
    data[40] ^= 1
    assert diagnose(bytes(data)).faults[0].startswith("a.zip was changed: ")


def test_the_checksum_is_that_of_the_contents():
    assert zlib.crc32(FILES["page.html"]).to_bytes(4, "little") in PACKED
