"""Configs are other people's text: read with limits, and shown short and on one line."""

import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

from jobs.engine.errors import SAELoadError

MAX_CONFIG_BYTES = 1_000_000
MAX_NAME_LENGTH = 200
MAX_SHOWN_PATH = 300
_IS_NOT = {
    int: "is no whole number",
    float: "is no finite number",
    str: "is no text",
    bool: "is neither true nor false",
    dict: "is no object",
}


def clip(value: object) -> str:
    """``value`` for an error message, on one line and at most 80 characters long."""
    text = str(value) if isinstance(value, Exception) else _show(value)
    text = "".join(c if c.isprintable() else "?" for c in " ".join(text[:1000].split()))
    return text if len(text) <= 80 else text[:77] + "..."


def _show(value: object, depth: int = 2) -> str:
    """As repr, but of a bounded length and time, whatever is nested in what."""
    if isinstance(value, str | bytes):
        return repr(value[:100])
    if isinstance(value, list | tuple | dict):
        return _show_some(value, depth - 1) if depth else "..."
    if isinstance(value, int) and value.bit_length() > 400:
        return f"a number of {value.bit_length()} bits"
    return repr(value) if value is None or isinstance(value, int | float) else f"a {type(value).__name__}"


def _show_some(value: list[Any] | tuple[Any, ...] | dict[Any, Any], depth: int) -> str:
    more = ["..."] if len(value) > 5 else []
    if isinstance(value, dict):
        pairs = islice(value.items(), 5)
        return "{" + ", ".join([f"{_show(k, 0)}: {_show(v, depth)}" for k, v in pairs] + more) + "}"
    return "[" + ", ".join([_show(v, depth) for v in value[:5]] + more) + "]"


def check_path(path: Path) -> Path:
    """``path``, if it can be shown, on one line, and stored."""
    if not (text := str(path.absolute())).isprintable():
        raise SAELoadError(f"{clip(text)} has characters in its name that cannot be shown: rename it.")
    return path


def clip_path(path: Path) -> str:
    """``path`` for an error message, without its middle where it is very long."""
    text, half = str(path), MAX_SHOWN_PATH // 2
    return text if len(text) <= MAX_SHOWN_PATH else f"{text[:half]}...{text[-half:]}"


class Config:
    """A JSON object in a file, whose fields are asked for by name and kind."""

    def __init__(self, file: Path, fields: dict[str, Any] | None = None) -> None:
        self.file = file
        self.fields = read_json_object(file) if fields is None else fields

    def __contains__(self, name: str) -> bool:
        return self.fields.get(name) is not None

    def get(self, name: str, kind: type, default: Any = None) -> Any:
        """The field if it is exactly a ``kind``; absent and null mean ``default``. A float may be written as an int."""
        value = self.fields.get(name)
        if value is None:
            return default
        if kind is float and type(value) is int and abs(value) < 1 << 1000:
            value = float(value)
        if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
            raise SAELoadError(f"{self.file} has {name} {clip(value)}, which {_IS_NOT[kind]}.")
        return value

    def need(self, name: str, kind: type) -> Any:
        if name not in self:
            raise SAELoadError(f"{self.file} has no {name}, which its format needs.")
        return self.get(name, kind)

    def name(self, name: str) -> str | None:
        """A field that names something: text fit to be stored and shown."""
        return check_name(self.fields.get(name), f"{name} in {self.file}")

    def part(self, name: str) -> "Config":
        """The object in a field; an empty one where there is none."""
        return Config(self.file, self.get(name, dict, {}))

    def choice(self, name: str, known: tuple[str, ...], default: str | None = None) -> str:
        value = self.get(name, str, default)
        if value not in known:
            found = f"has no {name}" if value is None else f"has {name} {clip(value)}"
            raise SAELoadError(f"{self.file} {found}; known are {', '.join(known)}.")
        return str(value)

    def size(self, name: str, found: int) -> None:
        """Raise SAELoadError where the config states another size than the weights have."""
        if (stated := self.get(name, int, found)) != found:
            raise SAELoadError(f"{self.file} says {name} {clip(stated)}, but the weights are made for {found}.")


def read_json_object(file: Path) -> dict[str, Any]:
    """The JSON object in ``file``. Raises SAELoadError on anything else, or if it is larger than a config can be."""
    try:
        with file.open("rb") as stream:
            text = stream.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise SAELoadError(f"{file} cannot be read: {error.strerror}.") from error
    if len(text) > MAX_CONFIG_BYTES:
        raise SAELoadError(f"{file} is larger than {MAX_CONFIG_BYTES} bytes, so it is not a config.")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SAELoadError(f"{file} is not JSON: {clip(error)}.") from error
    if not isinstance(value, dict):
        raise SAELoadError(f"{file} holds no JSON object but {clip(value)}.")
    return value


def check_name(name: object, where: str) -> str | None:
    """``name`` if it is None or text fit to be stored and shown. Raises SAELoadError."""
    if name is None or (isinstance(name, str) and 0 < len(name) <= MAX_NAME_LENGTH and name.isprintable()):
        return name
    raise SAELoadError(f"{where} must be a name of at most {MAX_NAME_LENGTH} printable characters, not {clip(name)}.")
