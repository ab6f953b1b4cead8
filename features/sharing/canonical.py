"""JSON in the one form that a value has: RFC 8785 (JCS), so that a digest names what is said and not how it was typed.

UTF-8 without needless space; the keys of an object in the order of their UTF-16 code units; numbers as ECMAScript
writes them. Nothing is changed so that it fits: what has no canonical form is refused.
"""

import hashlib
import json
import re
from json.encoder import encode_basestring
from typing import Any, NoReturn

LARGEST = 2**53 - 1  # the integers up to here are floats that no other integer is read as
DEPTH = 40  # lists and objects, one in the other
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
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, float):
        return _number(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return _integer(value)
    if not isinstance(value, (list, tuple, dict)):
        raise NotCanonical(f"is a {type(value).__name__}, which JSON cannot say")
    if not deep:
        raise NotCanonical(f"lies more than {DEPTH} lists and objects deep")
    return _object(value, deep - 1) if isinstance(value, dict) else _list(value, deep - 1)


def _list(items: list[Any] | tuple[Any, ...], deep: int) -> str:
    parts: list[str] = []
    try:
        for item in items:
            parts.append(_written(item, deep))  # noqa: PERF401 - how far it came says where it went wrong
    except NotCanonical as error:
        error.steps.append(len(parts))
        raise
    return f"[{','.join(parts)}]"


def _object(items: dict[Any, Any], deep: int) -> str:
    parts: list[str] = []
    key: Any = None
    try:
        for key in _ordered(items):
            parts.append(f"{_string(key)}:{_written(items[key], deep)}")
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
    if not text.isascii() and (half := re.search("[\ud800-\udfff]", text)):
        raise NotCanonical(f"has half of a surrogate pair (U+{ord(half[0]):04X}), which is no character")
    return encode_basestring(text)


def _integer(value: int) -> str:
    if not -LARGEST <= value <= LARGEST:
        raise NotCanonical("is an integer beyond 2**53 - 1, which readers of JSON would round")
    return int.__repr__(value)


def _number(value: float) -> str:
    """As ECMAScript writes it. Python finds the same digits, the fewest that are read as ``value`` again, and puts the
    point elsewhere: ECMAScript has no .0, no zero below zero, and exponents below 1e-6 and from 1e21 on only.
    """
    text = float.__repr__(value)
    if text.endswith(".0"):
        return "0" if text == "-0.0" else text[:-2]
    if "n" in text:  # nan, inf
        raise NotCanonical(f"is {text}, which JSON cannot say")
    if "e" not in text:
        return text
    sign, digits, exponent = _parts(text)
    if -7 < exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    if 0 < exponent < 21:
        return f"{sign}{digits.ljust(exponent + 1, '0')}"
    point = "." if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{point}{digits[1:]}e{exponent:+d}"


def _parts(text: str) -> tuple[str, str, int]:
    """Sign, digits and exponent of what Python wrote with an exponent: 17 digits at most, so none is past the point
    where ECMAScript writes an integer.
    """
    mantissa, exponent = text.split("e")
    sign = "-" if mantissa.startswith("-") else ""
    return sign, mantissa.lstrip("-").replace(".", ""), int(exponent)


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
    """1e20 is written without an exponent, too: beyond 2**53 - 1 digits without a point are a float's."""
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
