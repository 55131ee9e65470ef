"""A whole XML document, by expat: what is read of it, and every reason to refuse it."""

from __future__ import annotations

from typing import Any, Final
from xml.parsers import expat

from shared.apple.plist.values import LEAVES, Limits, PlistError

_FLAGS: Final = {"true": True, "false": False}


def read(data: bytes, limits: Limits) -> dict[str, Any]:
    """Parse a document of a size that is allowed; raises PlistError."""
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


def _doctype(name: str, _system: str | None, _public: str | None, has_internal: int) -> None:
    if has_internal or name != "plist":
        raise PlistError("document type declarations with content are not accepted")


def _refuse_entity(*_: object) -> None:
    raise PlistError("entities are not accepted")


def _refuse_instruction(*_: object) -> None:
    raise PlistError("processing instructions are not accepted")


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
        if name in LEAVES or name in _FLAGS:
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
        convert = LEAVES.get(name)
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
