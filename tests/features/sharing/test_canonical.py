"""Canonical JSON: the RFC's own samples, and what has to hold of any value."""

import json
import math
import random
import struct
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.sharing.canonical import DEPTH, LARGEST, NotCanonical, canonical, digest_of, parse

LIMIT = 1 << 20
# RFC 8785, appendix B: the bits of a float, and how it is written.
SAMPLES = """
0000000000000000 0
8000000000000000 0
0000000000000001 5e-324
8000000000000001 -5e-324
7fefffffffffffff 1.7976931348623157e+308
ffefffffffffffff -1.7976931348623157e+308
4340000000000000 9007199254740992
c340000000000000 -9007199254740992
4430000000000000 295147905179352830000
44b52d02c7e14af5 9.999999999999997e+22
44b52d02c7e14af6 1e+23
44b52d02c7e14af7 1.0000000000000001e+23
444b1ae4d6e2ef4e 999999999999999700000
444b1ae4d6e2ef4f 999999999999999900000
444b1ae4d6e2ef50 1e+21
3eb0c6f7a0b5ed8c 9.999999999999997e-7
3eb0c6f7a0b5ed8d 0.000001
41b3de4355555553 333333333.3333332
41b3de4355555554 333333333.33333325
41b3de4355555555 333333333.3333333
41b3de4355555556 333333333.3333334
41b3de4355555557 333333333.33333343
becbf647612f3696 -0.0000033333333333333333
43143ff3c1cb0959 1424953923781206.2
"""
characters = st.characters(exclude_categories=["Cs"])
floats = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.none() | st.booleans() | st.integers(-LARGEST, LARGEST) | floats | st.text(characters)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(characters), inner, max_size=5)
)


@pytest.mark.parametrize("line", SAMPLES.split("\n")[1:-1])
def test_numbers_are_written_as_the_rfc_writes_them(line):
    bits, written = line.split()
    value = struct.unpack(">d", bytes.fromhex(bits))[0]
    assert canonical(value) == written.encode()
    assert parse(written.encode(), limit=LIMIT) == value


def test_an_object_is_written_as_the_rfc_writes_it():
    said = r"""{
        "numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/",
        "literals": [null, true, false]
    }"""
    written = r"""{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],""" + (
        r""""string":"€$\u000f\nA'B\"\\\\\"/"}"""
    )
    assert canonical(json.loads(said)) == written.encode()


def test_keys_stand_in_the_order_of_their_utf_16_code_units():
    keys = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]  # RFC 8785, 3.2.3
    assert list(json.loads(canonical(dict.fromkeys(sorted(keys), 0)))) == keys


@given(floats)
def test_a_float_comes_back_the_same(value):
    written = canonical(value)
    assert float(written) == value
    assert parse(written, limit=LIMIT) == value


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float32_comes_back_the_same_from_its_fewest_digits(value):
    short = float(str(np.float32(value)))
    assert np.float32(parse(canonical(short), limit=LIMIT)) == np.float32(value)


@given(values)
def test_what_is_written_is_read_and_written_the_same(value):
    written = canonical(value)
    read = parse(written, limit=LIMIT)
    assert read == value
    assert canonical(read) == written
    assert json.loads(written, parse_int=float) == value  # as JavaScript reads it


@given(st.dictionaries(st.text(characters), leaves), st.randoms(use_true_random=False))
def test_the_order_in_which_keys_were_put_does_not_matter(items, rng):
    keys = list(items)
    rng.shuffle(keys)
    assert canonical({key: items[key] for key in keys}) == canonical(items)


@given(values, st.randoms(use_true_random=False))
def test_no_other_way_to_write_a_value_is_read(value, rng):
    other = json.dumps(value, indent=rng.choice([None, 1]), ensure_ascii=rng.random() < 0.5).encode()
    if other == canonical(value):
        assert parse(other, limit=LIMIT) == value
    else:
        with pytest.raises(NotCanonical):
            parse(other, limit=LIMIT)


def test_tuples_are_lists_and_kinds_of_a_type_are_that_type():
    assert canonical((1, np.float64(0.5), np.float64(2))) == b"[1,0.5,2]"


def nested(depth: int) -> list:
    value: list = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_depth_is_limited():
    assert parse(canonical(nested(DEPTH)), limit=LIMIT) == nested(DEPTH)
    with pytest.raises(NotCanonical, match=f"more than {DEPTH}"):
        canonical(nested(DEPTH + 1))
    endless: list = []
    endless.append(endless)
    with pytest.raises(NotCanonical, match=f"more than {DEPTH}"):
        canonical(endless)


@pytest.mark.parametrize(
    ("value", "where", "why"),
    [
        ({"content": {"examples": [1, {"values": [0.5, math.nan]}]}}, "content.examples[1].values[1]", "nan"),
        ({"a": -math.inf}, "a", "-inf"),
        ([LARGEST, LARGEST + 1], "[1]", "2**53"),
        (-LARGEST - 1, "The value", "2**53"),
        ({"a b": {1: 2}}, '["a b"]', "the key 1"),
        ({"a": {None: 2}}, "a", "the key None"),
        ({"a": "half \ud83d"}, "a", "U+D83D"),
        ({"half \ude00": 1}, '["half \\ude00"]', "U+DE00"),
        ({"a": [b"bytes"]}, "a[0]", "bytes"),
        ({"a": {1, 2}}, "a", "set"),
        ({"a": np.float32(1)}, "a", "float32"),
    ],
)
def test_what_has_no_canonical_form_is_refused_and_named(value, where, why):
    with pytest.raises(NotCanonical) as caught:
        canonical(value)
    assert str(caught.value).startswith(f"{where} ")
    assert why in str(caught.value)
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no JSON"),
        (b"{", "no JSON"),
        (b"[1] ", "byte 3"),
        (b" [1]", "byte 0"),
        (b"[1, 2]", "byte 3"),
        (b"\xef\xbb\xbf[1]", "no JSON"),
        (b'"\xff"', "UTF-8 at byte 1"),
        (b'"\xed\xa0\xbd"', "UTF-8"),
        (b'"\\ud83d"', "U+D83D"),
        (b'"\\u0041"', "byte 1"),
        (b'"\\/"', "byte 1"),
        (b'"a\nb"', "no JSON"),
        (b'{"a":1,"b":2,"a":1}', '"a" twice'),
        (b'[{"a":1,"a":1}]', '"a" twice'),
        (b'{"b":1,"a":2}', "byte 2"),
        (b"NaN", "NaN"),
        (b"[-Infinity]", "-Infinity"),
        (b"1e400", "inf"),
        (b"1.0", "byte 1"),
        (b"1E5", "byte 1"),
        (b"-0", "byte 0"),
        (b"0.10", "byte 3"),
        (b"9007199254740993", "byte 15"),
        (b"123456789012345678901234567890", "byte 1"),
        (b"9" * 5000, "inf"),
        (b"1" * 5000, "inf"),
        (b"[" * 100_000 + b"]" * 100_000, "more than 40"),
        (b'{"a":' * 100_000, "more than 40"),
        (b"[" * 41 + b"]" * 41, "more than 40"),
        (b"[" + b"1," * LIMIT + b"1]", "more than the 1,048,576"),
    ],
)
def test_bytes_that_are_no_canonical_form_are_refused(data, why):
    start = time.perf_counter()
    with pytest.raises(NotCanonical) as caught:
        parse(data, limit=LIMIT)
    assert why in str(caught.value)
    assert time.perf_counter() - start < 1


@given(st.binary(max_size=200) | st.text('[]{}",:0123456789.eE-+\\u tfn').map(str.encode))
def test_any_bytes_are_a_canonical_form_or_refused(data):
    try:
        value = parse(data, limit=LIMIT)
    except NotCanonical:
        return
    assert canonical(value) == data


def test_the_digest_is_sha_256():
    assert digest_of(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_snapshot_of_100_kb_takes_milliseconds():
    rng = random.Random(0)
    words, numbers = [" the", " Paris", "é", "\n", '"'], [0.0, 0.5, 7.3125, 1.2345678]
    examples = [
        {"tokens": rng.choices(words, k=64), "values": rng.choices(numbers, k=64), "context": n} for n in range(120)
    ]
    value = {"content": {"examples": examples}}
    written = canonical(value)
    assert len(written) > 80_000
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        canonical(value)
        best = min(best, time.perf_counter() - start)
    assert best < 0.05  # 5 ms on one core that has nothing else to do
