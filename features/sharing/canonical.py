"""JSON in the one form that a value has: RFC 8785 (JCS), so that a digest names what is said and not how it was typed.

UTF-8 without needless space; the keys of an object in the order of their UTF-16 code units; numbers as ECMAScript
writes them. Nothing is changed so that it fits: what has no canonical form is refused.
"""

import hashlib
import json
import re
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any, NoReturn

LARGEST = 2**53 - 1  # the integers up to here are floats that no other integer is read as
DEPTH = 40  # lists and objects, one in the other
_HALF = re.compile("[\ud800-\udfff]")
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class NotCanonical(ValueError):
    """A value without a canonical form, or bytes that are not one. The message is one sentence that says where."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.steps: list[str | int] = []  # from the value that is wrong outwards: filled as the error passes through

    def __str__(self) -> str:
        return f"{_path(self.steps[::-1])} {self.problem}."


def canonical(value: Any) -> bytes:
    """``value`` as canonical JSON: None, booleans, numbers, strings, lists or tuples, and dicts of these.

    Raises NotCanonical for anything else, for integers beyond 2**53 - 1, numbers that are not finite, keys that are no
    strings, halves of surrogate pairs, and what lies more than DEPTH deep.
    """
    return _written(value, DEPTH).encode()


def parse(data: bytes, *, limit: int) -> Any:
    """The value whose canonical form ``data`` is.

    Raises NotCanonical for more than ``limit`` bytes, for what is no JSON, and for JSON in any other form.
    """
    if len(data) > limit:
        raise NotCanonical(f"has {len(data):,} bytes, more than the {limit:,} that are read")
    value = _read(data)
    if (form := canonical(value)) != data:
        at = next((i for i, (a, b) in enumerate(zip(form, data, strict=False)) if a != b), min(len(form), len(data)))
        raise NotCanonical(f"is not in canonical form from byte {at} on")
    return value


def digest_of(data: bytes) -> str:
    """SHA-256, as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def _written(value: Any, deep: int) -> str:
    """``value`` as text; it may hold ``deep`` levels of lists and objects."""
    if isinstance(value, (dict, list, tuple)):
        if not deep:
            raise NotCanonical(f"lies more than {DEPTH} lists and objects deep")
        return _object(value, deep - 1) if isinstance(value, dict) else _list(value, deep - 1)
    for kind, write in _LEAVES.items():  # kinds of their own, such as numpy's float64, which is a float
        if isinstance(value, kind):
            return write(value)
    raise NotCanonical(f"is a {type(value).__name__}, which JSON cannot say")


def _list(items: list[Any] | tuple[Any, ...], deep: int) -> str:
    parts: list[str] = []
    try:
        for item in items:
            write = _LEAVES.get(type(item))
            parts.append(write(item) if write else _written(item, deep))
    except NotCanonical as error:
        error.steps.append(len(parts))
        raise
    return f"[{','.join(parts)}]"


def _object(items: dict[Any, Any], deep: int) -> str:
    parts: list[str] = []
    key = ""
    ordered = _ordered(items)
    try:
        for key in ordered:
            item = items[key]
            write = _LEAVES.get(type(item))
            parts.append(f"{_string(key)}:{write(item) if write else _written(item, deep)}")
    except NotCanonical as error:
        error.steps.append(key)
        raise
    return f"{{{','.join(parts)}}}"


def _ordered(items: dict[Any, Any]) -> list[str]:
    """The keys by their UTF-16 code units. Code points stand in the same order unless some lie beyond U+FFFF."""
    if wrong := [key for key in items if not isinstance(key, str)]:
        raise NotCanonical(f"has the key {wrong[0]!r}, which is no string")
    return sorted(items, key=lambda key: key.encode("utf-16-be", "surrogatepass"))


def _string(text: str) -> str:
    """In quotes. The standard library escapes just what the RFC says, in the same way."""
    if not text.isascii() and (half := _HALF.search(text)):
        raise NotCanonical(f"has half of a surrogate pair (U+{ord(half[0]):04X}), which is no character")
    return encode_basestring(text)


def _integer(value: int) -> str:
    if not -LARGEST <= value <= LARGEST:
        raise NotCanonical("is an integer beyond 2**53 - 1, which readers of JSON would round")
    return int.__repr__(value)


def _number(value: float) -> str:
    """As ECMAScript writes it. Python finds the same digits, the fewest that are read as ``value`` again, and puts the
    point elsewhere: ECMAScript has no .0 and no -0, and an exponent below 1e-6 and from 1e21 on alone.
    """
    text = float.__repr__(value)
    if text.endswith(".0"):
        return "0" if text == "-0.0" else text[:-2]
    if "n" in text:  # nan, inf
        raise NotCanonical(f"is {text}, which JSON cannot say")
    if "e" not in text:
        return text
    mantissa, power = text.split("e")
    sign = "-" if value < 0 else ""
    digits, exponent = mantissa.lstrip("-").replace(".", ""), int(power)
    if -7 < exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    if 0 < exponent < 21:  # Python writes an exponent from 1e16 on, so all the digits stand before the point
        return sign + digits.ljust(exponent + 1, "0")
    return f"{mantissa}e{exponent:+d}"


_LEAVES: dict[type, Callable[[Any], str]] = {
    str: _string,
    float: _number,
    bool: lambda value: "true" if value else "false",  # before int, which it is, too
    int: _integer,
    type(None): lambda value: "null",
}


def _read(data: bytes) -> Any:
    """``data`` as JSON of any form, but not with a key twice or with NaN."""
    try:
        return json.loads(
            data.decode(), object_pairs_hook=_without_doubles, parse_int=_read_integer, parse_constant=_refuse
        )
    except UnicodeDecodeError as error:
        raise NotCanonical(f"is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise NotCanonical(f"is no JSON: {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise NotCanonical(f"lies more than {DEPTH} lists and objects deep") from error


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    items = dict(pairs)
    if len(items) < len(pairs):
        seen: set[str] = set()
        double = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise NotCanonical(f"has the key {json.dumps(double)} twice in one object")
    return items


def _read_integer(text: str) -> int | float:
    """A float beyond 2**53 - 1: one like 1e20 is written without a point, too."""
    if len(text) < 16:
        return int(text)
    value = float(text)
    return int(value) if abs(value) <= LARGEST else value


def _refuse(constant: str) -> NoReturn:
    raise NotCanonical(f"has {constant}, which JSON cannot say")


def _path(steps: list[str | int]) -> str:
    """``content.examples[3].values[0]``; what is wrong with the whole is said of "The value"."""
    path = ""
    for step in steps:
        if isinstance(step, str) and _PLAIN.fullmatch(step):
            path += f".{step}" if path else step
        else:
            path += f"[{step if isinstance(step, int) else json.dumps(step)}]"
    return path or "The value"
