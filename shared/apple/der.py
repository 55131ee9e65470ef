"""Writing DER, and turning the BER that some devices send into DER within limits.

`cryptography.hazmat.asn1` reads DER only. Foundation's and OpenSSL's streaming encoders write
indefinite lengths and strings in pieces (X.690 §8.1.3.6, §8.7.3), so what does not decode gets one
bounded pass here and is tried again. Writing is by hand because CMS needs raw, already signed
parts inside new structures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1

INTEGER: Final = 0x02
OBJECT_IDENTIFIER: Final = 0x06
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = b"\x05\x00"
PRINTABLE_STRING: Final = 0x13
SEQUENCE: Final = 0x30
SET: Final = 0x31

_CONSTRUCTED: Final = 0x20
_LONG_TAG: Final = 0x1F
_LONG_LENGTH: Final = 0x80
_LENGTH_OCTETS: Final = 4
_TWO_OCTETS: Final = 0x82
# Universal string types whose pieces may be joined: octet, UTF-8, printable, T61, IA5.
_PIECEWISE: Final = frozenset({0x04, 0x0C, 0x13, 0x14, 0x16})


class DerError(ValueError):
    """The bytes are no BER, or cost more than the limits allow."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one structure may cost: bytes, nesting, and elements visited."""

    max_bytes: int = 64 * 1024
    max_depth: int = 24
    max_nodes: int = 4096


DEFAULT_LIMITS: Final = Limits()


def tlv(tag: int, *parts: bytes) -> bytes:
    """Encode one element: a one-octet tag, the shortest length, the joined parts."""
    body = b"".join(parts)
    size = len(body)
    if size < _LONG_LENGTH:
        return bytes((tag, size)) + body
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_LENGTH | len(octets))) + octets + body


def sequence(*parts: bytes) -> bytes:
    return tlv(SEQUENCE, *parts)


def set_of(parts: Iterable[bytes]) -> bytes:
    """Encode a SET OF, its members in DER order (X.690 §11.6)."""
    return tlv(SET, *sorted(parts))


def context(number: int, *parts: bytes) -> bytes:
    """Encode a constructed context tag: EXPLICIT, or IMPLICIT over a constructed type."""
    return tlv(0xA0 | number, *parts)


def integer(value: int) -> bytes:
    return asn1.encode_der(value)


def octets(value: bytes) -> bytes:
    return tlv(OCTET_STRING, value)


@lru_cache(maxsize=256)
def oid(value: str | x509.ObjectIdentifier) -> bytes:
    if isinstance(value, str):
        value = x509.ObjectIdentifier(value)
    return asn1.encode_der(value)


def to_der(data: bytes, *, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """Rewrite one BER element as DER lengths and whole strings; raises DerError.

    Members of sets keep their order, and what is already DER is returned as it is: certificates
    inside must stay byte for byte what was signed.
    """
    if len(data) > limits.max_bytes:
        raise DerError("too large")
    reader = _Reader(data, limits)
    result = reader.element(0, len(data), 0)
    if reader.position != len(data):
        raise DerError("trailing bytes")
    return result


class _Reader:
    """One pass over the bytes; `position` is where the next element starts."""

    __slots__ = ("_data", "_limits", "_nodes", "position")

    def __init__(self, data: bytes, limits: Limits) -> None:
        self._data = data
        self._limits = limits
        self._nodes = 0
        self.position = 0

    def element(self, start: int, end: int, depth: int) -> bytes:
        """Rewrite the element at `start`, which may not pass `end`."""
        self._visit(depth)
        tag, size = self._header(start, end)
        body = self.position
        if size is None and not tag & _CONSTRUCTED:
            raise DerError("primitive without length")
        if not tag & _CONSTRUCTED:
            self.position = body + (size or 0)
            return tlv(tag, self._data[body : self.position])
        children = self._children(end if size is None else body + size, depth, ends=size is None)
        if tag & ~_CONSTRUCTED in _PIECEWISE:
            return _join(tag & ~_CONSTRUCTED, children)
        return tlv(tag, *children)

    def _children(self, end: int, depth: int, *, ends: bool) -> list[bytes]:
        """Rewrite elements up to `end`, or up to the end-of-contents octets when `ends`."""
        children: list[bytes] = []
        while True:
            if ends and self._data[self.position : self.position + 2] == b"\x00\x00":
                if self.position + 2 > end:
                    raise DerError("element passes its parent")
                self.position += 2
                return children
            if self.position >= end:
                if ends:
                    raise DerError("missing end of contents")
                return children
            children.append(self.element(self.position, end, depth + 1))

    def _visit(self, depth: int) -> None:
        self._nodes += 1
        if depth > self._limits.max_depth:
            raise DerError("too deep")
        if self._nodes > self._limits.max_nodes:
            raise DerError("too many elements")

    def _header(self, start: int, end: int) -> tuple[int, int | None]:
        """Read tag and length (None: indefinite) and move `position` to the contents."""
        if start + 2 > end:
            raise DerError("truncated")
        tag, first = self._data[start], self._data[start + 1]
        if tag & _LONG_TAG == _LONG_TAG or tag == 0:
            raise DerError("unsupported tag")
        self.position = start + 2
        if first == _LONG_LENGTH:
            return tag, None
        size = first
        if first > _LONG_LENGTH:
            count = first & 0x7F
            if count > _LENGTH_OCTETS or self.position + count > end:
                raise DerError("bad length")
            size = int.from_bytes(self._data[self.position : self.position + count], "big")
            self.position += count
        if self.position + size > end:
            raise DerError("element passes its parent")
        return tag, size


def _join(tag: int, pieces: list[bytes]) -> bytes:
    """Join the (already rewritten) pieces of a constructed string into a primitive one."""
    bodies: list[bytes] = []
    for piece in pieces:
        if piece[0] not in {tag, OCTET_STRING}:
            raise DerError("string of mixed pieces")
        bodies.append(contents(piece))
    return tlv(tag, *bodies)


def contents(element: bytes) -> bytes:
    """Return the contents octets of one whole DER element."""
    first = element[1]
    return element[2 + (first & 0x7F) :] if first & _LONG_LENGTH else element[2:]


def enter(data: bytes, position: int, tag: int) -> tuple[int, int]:
    """Return where the contents of the DER element at `position` start and end.

    Raises DerError for another tag or a length that is not written the shortest way, IndexError
    past the end of the data. The end is not compared with what lies around: the caller does.
    """
    if data[position] != tag:
        raise DerError("another element was expected")
    size = data[position + 1]
    if size < _LONG_LENGTH:
        return position + 2, position + 2 + size
    if size == _TWO_OCTETS and data[position + 2]:
        start = position + 4
        return start, start + (data[position + 2] << 8 | data[position + 3])
    return _enter_long(data, position + 2, size & 0x7F)


def _enter_long(data: bytes, position: int, count: int) -> tuple[int, int]:
    """Read a length of `count` octets at `position`."""
    start = position + count
    size = int.from_bytes(data[position:start], "big")
    if count > _LENGTH_OCTETS or size < _LONG_LENGTH or count != (size.bit_length() + 7) // 8:
        raise DerError("bad length")
    return start, start + size


def element_at(data: bytes, position: int) -> bytes:
    """Return the whole definite-length element that starts at `position`; raises DerError."""
    end = position + 2
    if end > len(data):
        raise DerError("truncated")
    size = data[position + 1]
    if size & _LONG_LENGTH:
        count = size & 0x7F
        size = int.from_bytes(data[end : end + count], "big")
        end += count
    end += size
    if end > len(data):
        raise DerError("element passes its parent")
    return data[position:end]


def elements(body: bytes) -> list[bytes]:
    """Split contents octets into whole definite-length elements; raises DerError."""
    found: list[bytes] = []
    position = 0
    while position < len(body):
        found.append(element_at(body, position))
        position += len(found[-1])
    return found
