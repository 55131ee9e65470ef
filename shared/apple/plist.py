"""Property lists: bounded XML parsing, writing, and a JSON form that keeps every type.

Only XML is read. A binary property list may name the same object many times and unfold to 2^40
leaves from 244 bytes, and no device needs it on these routes.
"""

from __future__ import annotations

import base64
import binascii
import plistlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from xml.parsers import expat

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,20}")
_REAL: Final = re.compile(
    r"[+-]?(?:[0-9]{1,40}(?:\.[0-9]{0,40})?|\.[0-9]{1,40})(?:[eE][+-]?[0-9]{1,4})?"
)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_SPACE: Final = str.maketrans("", "", " \t\r\n")
_SMALLEST: Final = -(1 << 63)
_LARGEST: Final = (1 << 64) - 1
_JSON_DEPTH: Final = 64
_JSON_TAGS: Final = frozenset({"$data", "$date", "$dict"})


class PlistError(ValueError):
    """The bytes are no property list that Muster accepts; `reason` is short and safe to log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Limits:
    """What one document may cost: bytes, nesting, and nodes visited (keys count as nodes)."""

    max_bytes: int = 16 * 1024 * 1024
    max_depth: int = 32
    max_nodes: int = 400_000
    max_key: int = 1024


DEFAULT_LIMITS: Final = Limits()


def parse(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Parse one XML property list whose root is a dictionary.

    Dates come back aware, in UTC; integers fit 64 bits; reals are finite. Raises PlistError for
    everything else: other formats and encodings, entities, duplicate keys, and each limit.
    """
    if len(data) > limits.max_bytes:
        raise PlistError("too large")
    if data.startswith(b"bplist"):
        raise PlistError("binary property lists are not accepted")
    if b"\x00" in data:
        # Also every UTF-16 document: expat follows a byte order mark even when told UTF-8.
        raise PlistError("NUL, or not UTF-8")
    builder = _Builder(limits)
    # The encoding is forced: a document that declares another one is read as UTF-8 or refused.
    parser = expat.ParserCreate("UTF-8")
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text.append
    parser.StartDoctypeDeclHandler = _doctype
    parser.EntityDeclHandler = _refuse_entity
    # Behind an unread external DTD expat skips unknown entities in silence.
    parser.SkippedEntityHandler = _refuse_entity
    parser.ProcessingInstructionHandler = _refuse_instruction
    try:
        parser.Parse(data, True)  # noqa: FBT003 - expat takes it by position only
    except expat.ExpatError as error:
        raise PlistError(f"not well-formed: {expat.ErrorString(error.code)}") from None
    return builder.result()


def dump(value: Mapping[str, Any]) -> bytes:
    """Write an XML property list, keys in the given order; datetimes must be UTC."""
    try:
        return plistlib.dumps(value, sort_keys=False)
    except (TypeError, OverflowError) as error:
        raise PlistError(f"cannot be written: {error}"[:120]) from None


def to_json(value: Any) -> Any:
    """Turn a parsed value into JSON-safe values.

    Data becomes {"$data": BASE64}, a date its text, 2026-01-31T08:00:00Z. `from_json` turns all but
    dates back into what they were.
    """
    if isinstance(value, dict):
        items = {key: to_json(item) for key, item in value.items()}
        # A device may send our own tags as keys: they are wrapped, so nothing can be forged.
        return {"$dict": items} if len(items) == 1 and _JSON_TAGS & items.keys() else items
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, bytes):
        return {"$data": base64.b64encode(value).decode("ascii")}
    if isinstance(value, datetime):
        # Not strftime: it writes years before 1000 without leading zeros.
        moment = value.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
        return f"{moment}Z"
    return value


def from_json(value: Any) -> Any:
    """Turn JSON values into what `dump` writes; raises PlistError for what no plist can hold.

    Text stays text: a date must be written {"$date": "2026-01-31T08:00:00Z"}.
    """
    return _from_json(value, 0)


def _from_json(value: Any, depth: int) -> Any:
    if depth > _JSON_DEPTH:
        raise PlistError("too deep")
    if isinstance(value, dict):
        return _from_json_dict(value, depth)
    if isinstance(value, list):
        return [_from_json(item, depth + 1) for item in value]
    if isinstance(value, bool | str | float):
        return value
    if isinstance(value, int) and _SMALLEST <= value <= _LARGEST:
        return value
    raise PlistError("null and integers above 64 bits have no property list form")


def _from_json_dict(value: dict[str, Any], depth: int) -> Any:
    if len(value) == 1:
        match value:
            case {"$data": str(text)}:
                return _data(text)
            case {"$date": str(text)}:
                return _date(text)
            case {"$dict": dict(items)}:
                return {key: _from_json(item, depth + 1) for key, item in items.items()}
            case _:
                pass
    return {key: _from_json(item, depth + 1) for key, item in value.items()}


def _doctype(name: str, _system: str | None, _public: str | None, has_internal: int) -> None:
    if has_internal or name != "plist":
        raise PlistError("document type declarations with content are not accepted")


def _refuse_entity(*_: object) -> None:
    raise PlistError("entities are not accepted")


def _refuse_instruction(*_: object) -> None:
    raise PlistError("processing instructions are not accepted")


def _integer(text: str) -> int:
    stripped = text.strip()
    if _INTEGER.fullmatch(stripped) is None:
        raise PlistError("bad integer")
    number = int(stripped)
    if not _SMALLEST <= number <= _LARGEST:
        raise PlistError("integer above 64 bits")
    return number


def _real(text: str) -> float:
    stripped = text.strip()
    if _REAL.fullmatch(stripped) is None:
        raise PlistError("bad real")
    number = float(stripped)
    if number - number != 0:  # infinite: 1e999 passes the pattern
        raise PlistError("real out of range")
    return number


def _date(text: str) -> datetime:
    stripped = text.strip()
    if _DATE.fullmatch(stripped) is None:
        raise PlistError("bad date")
    try:
        return datetime.fromisoformat(stripped)
    except ValueError:
        raise PlistError("bad date") from None


def _data(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text.translate(_SPACE), strict_mode=True)
    except ValueError:
        raise PlistError("bad base64") from None


_LEAVES: Final[Mapping[str, Callable[[str], Any]]] = {
    "string": str,
    "integer": _integer,
    "real": _real,
    "date": _date,
    "data": _data,
}
_FLAGS: Final = {"true": True, "false": False}


class _Builder:
    """Builds the tree from expat's events; holds no reference to the parser (no cycles)."""

    __slots__ = ("_container", "_key", "_leaf", "_limits", "_nodes", "_root", "_stack", "text")

    def __init__(self, limits: Limits) -> None:
        self.text: list[str] = []
        self._limits = limits
        self._nodes = 0
        self._leaf: str | None = None
        self._key: str | None = None
        # Enclosing containers with the key each waits under; None is the <plist> element.
        self._stack: list[tuple[Any, str | None]] = []
        self._container: Any = None
        self._root: dict[str, Any] | None = None

    def result(self) -> dict[str, Any]:
        """Return the finished root; expat has already refused unclosed elements."""
        if self._root is None:
            raise PlistError("no dictionary inside")
        return self._root

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if self._leaf is not None:
            raise PlistError("element inside a value")
        self._nodes += 1
        if self._nodes > self._limits.max_nodes:
            raise PlistError("too many values")
        if self.text:
            self._drop_space()
        if name in _LEAVES or name in _FLAGS:
            self._require_place()
            self._leaf = name
        elif name == "key":
            if type(self._container) is not dict or self._key is not None:
                raise PlistError("key out of place")
            self._leaf = name
        else:
            self._open(name)
        if attributes and name != "plist":
            raise PlistError("unexpected attribute")

    def end(self, name: str) -> None:
        text = "".join(self.text) if self._leaf is not None else ""
        if self._leaf is None:
            if self.text:
                self._drop_space()
            self._close(name)
            return
        self._leaf = None
        self.text.clear()
        if name == "key":
            self._take_key(text)
            return
        convert = _LEAVES.get(name)
        if convert is not None:
            self._place(convert(text))
        elif text:
            raise PlistError("text inside a truth value")
        else:
            self._place(_FLAGS[name])

    def _open(self, name: str) -> None:
        if name == "plist":
            if self._stack:
                raise PlistError("nested document")
            self._stack.append((None, None))
            return
        if name not in {"dict", "array"}:
            raise PlistError("unknown element")
        if len(self._stack) > self._limits.max_depth:
            raise PlistError("too deep")
        value: Any = {} if name == "dict" else []
        if self._container is None:
            if name != "dict" or not self._stack or self._root is not None:
                raise PlistError("the root must be one dictionary")
            self._root = value
        else:
            self._place(value)
        self._stack.append((self._container, self._key))
        self._container, self._key = value, None

    def _close(self, name: str) -> None:
        if name == "dict" and self._key is not None:
            raise PlistError("key without value")
        self._container, self._key = self._stack.pop()

    def _require_place(self) -> None:
        container = self._container
        if container is None:
            raise PlistError("the root must be one dictionary")
        if self._key is None and type(container) is dict:
            raise PlistError("value without key")

    def _place(self, value: Any) -> None:
        container = self._container
        if type(container) is list:
            container.append(value)
            return
        if self._key is None:
            raise PlistError("value without key")
        container[self._key] = value
        self._key = None

    def _take_key(self, text: str) -> None:
        if len(text) > self._limits.max_key:
            raise PlistError("key too long")
        if text in self._container:
            raise PlistError("duplicate key")
        self._key = text

    def _drop_space(self) -> None:
        if not "".join(self.text).isspace():
            raise PlistError("text between values")
        self.text.clear()
