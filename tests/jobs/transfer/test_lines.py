"""Files as streams: whatever is in them, every record comes once, or a sentence says why not."""

import gzip
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.transfer import lines as module
from jobs.transfer.faults import Broken, Refused
from jobs.transfer.lines import ObjectReader, blocks, lines, parsed

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=4)


def read(raw: bytes, skip: int = 0) -> list[tuple[int, Any]]:
    return list(lines(io.BytesIO(raw), skip))


@given(st.lists(objects, max_size=6), st.booleans(), st.integers(2, 40), st.integers(0, 8))
def test_lines_come_as_they_were_written(records: list[Any], packed: bool, block: int, skip: int) -> None:
    raw = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        found = read(gzip.compress(raw) if packed else raw, skip)
    assert [parsed(line) for _, line in found] == records[skip:]
    assert [number for number, _ in found] == list(range(skip + 1, len(records) + 1))


@given(st.binary(max_size=200))
def test_no_bytes_break_it(raw: bytes) -> None:
    try:
        for _, line in read(raw):
            if isinstance(line, bytes):
                parsed(line)
    except (Refused, Broken) as error:
        assert str(error)


@given(st.lists(objects, max_size=5), objects, st.integers(2, 30))
def test_an_array_in_an_object_comes_piece_by_piece(records: list[Any], facts: dict[str, Any], block: int) -> None:
    facts = {f"_{key}": value for key, value in facts.items()} | {"a": 1}
    raw = json.dumps(facts | {"features": records, "after": 2}, ensure_ascii=False).encode("utf-8", "replace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        reader = ObjectReader(io.BytesIO(raw), "features")
        found = list(reader.elements())
    assert found == [(number, record) for number, record in enumerate(json.loads(raw)["features"], 1)]
    assert reader.facts == {key: value for key, value in json.loads(raw).items() if key not in ("features", "after")}


@given(st.integers(0, 200))
def test_an_array_that_breaks_off_says_so(cut: int) -> None:
    raw = json.dumps({"a": 1, "features": [{"number": i} for i in range(12)]}).encode()
    reader = ObjectReader(io.BytesIO(raw[:cut]), "features")
    found: list[Any] = []
    if cut < len(raw) - 1:
        with pytest.raises(Broken):
            found.extend(reader.elements())
    assert all(record == {"number": number - 1} for number, record in found)


def test_gzip_that_breaks_off_gives_its_whole_lines_and_says_so() -> None:
    raw = gzip.compress(b"".join(json.dumps({"i": i, "noise": str(i**9)}).encode() + b"\n" for i in range(2000)))
    found: list[Any] = []
    with pytest.raises(Broken, match="ends too early"):
        found.extend(lines(io.BytesIO(raw[: len(raw) // 2])))
    assert 100 < len(found) < 2000
    assert [parsed(line)["i"] for _, line in found if isinstance(line, bytes)] == list(range(len(found)))


def test_several_gzip_members_are_one_file() -> None:
    raw = gzip.compress(b'{"a": 1}\n{"a"') + gzip.compress(b": 2}\n") + b"\0" * 20
    assert [parsed(line) for _, line in read(raw)] == [{"a": 1}, {"a": 2}]


def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FREE", 1 << 20)
    with pytest.raises(Broken, match="400 times its size"):
        for _ in blocks(io.BytesIO(gzip.compress(b" " * (8 << 20)))):
            pass


def test_a_line_that_is_too_long_costs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_RECORD", 1000)
    monkeypatch.setattr(module, "BLOCK", 64)
    found = read(b'{"a": 1}\n' + b"x" * 5000 + b'\n{"a": 2}\n' + b"y" * 5000)
    assert [(number, type(line)) for number, line in found] == [(1, bytes), (2, Refused), (3, bytes), (4, Refused)]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"[1]", "not a JSON object"),
        (b"{", "not JSON"),
        (b'{"a": \xff}', "not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_line_that_is_no_object_is_refused(line: bytes, why: str) -> None:
    with pytest.raises(Refused, match=why):
        parsed(line)
