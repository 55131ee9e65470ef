"""ASN.1 by hand: DER written (BER on request), BER read. X.690 is the source of every rule here.

The server reads with a declarative DER parser; writing each byte ourselves lets the simulator send
forms that such a parser has never produced.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

INTEGER, BIT_STRING, OCTET_STRING, NULL, OID = 0x02, 0x03, 0x04, 0x05, 0x06
PRINTABLE_STRING, UTC_TIME, GENERALIZED_TIME = 0x13, 0x17, 0x18
SEQUENCE, SET = 0x30, 0x31
CONSTRUCTED = 0x20
CONTEXT_0 = 0xA0
MAX_DEPTH = 32
_LONG_FORM = 0x80
_HIGH_TAG = 0x1F
_FIRST_GENERALIZED_YEAR = 2050


class DerError(ValueError):
    """Bytes that are no ASN.1 of the expected shape."""


def tlv(tag: int, *parts: bytes) -> bytes:
    content = b"".join(parts)
    size = len(content)
    if size < _LONG_FORM:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, _LONG_FORM | len(length))) + length + content


def indefinite(tag: int, *parts: bytes) -> bytes:
    """A constructed value ended by two zero bytes instead of a length: BER only (X.690 8.1.3.6)."""
    return bytes((tag, _LONG_FORM)) + b"".join(parts) + b"\0\0"


def sequence(*parts: bytes) -> bytes:
    return tlv(SEQUENCE, *parts)


def set_of(*parts: bytes) -> bytes:
    """A SET OF in DER: its members sorted by their encodings (X.690 11.6)."""
    return tlv(SET, *sorted(parts))


def explicit(number: int, *parts: bytes) -> bytes:
    return tlv(CONTEXT_0 | number, *parts)


def integer(value: int) -> bytes:
    width = (value if value >= 0 else ~value).bit_length() // 8 + 1
    return tlv(INTEGER, value.to_bytes(width, "big", signed=True))


def octets(value: bytes) -> bytes:
    return tlv(OCTET_STRING, value)


def null() -> bytes:
    return tlv(NULL)


def printable(text: str) -> bytes:
    return tlv(PRINTABLE_STRING, text.encode("ascii"))


def time(moment: datetime) -> bytes:
    """UTCTime until 2049, GeneralizedTime after (RFC 5652 11.3); `moment` is in UTC."""
    if moment.year < _FIRST_GENERALIZED_YEAR:
        return tlv(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())
    return tlv(GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").encode())


@lru_cache(maxsize=256)
def oid(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    return tlv(OID, b"".join(_arc(arc) for arc in (first * 40 + second, *rest)))


def _arc(value: int) -> bytes:
    groups = [value & 0x7F]
    while value := value >> 7:
        groups.append(0x80 | value & 0x7F)
    return bytes(reversed(groups))


@dataclass(frozen=True, slots=True)
class Node:
    """One value as read: its tag byte, its content without the end marker, and all its bytes."""

    tag: int
    content: bytes
    raw: bytes

    def children(self) -> list[Node]:
        return read_all(self.content)

    def child(self, position: int, tag: int | None = None) -> Node:
        members = self.children()
        if position >= len(members):
            raise DerError(f"value with tag {self.tag:#x} has no member {position}")
        return members[position] if tag is None else members[position].expect(tag)

    def expect(self, tag: int) -> Node:
        if self.tag != tag:
            raise DerError(f"tag {self.tag:#x} where {tag:#x} was expected")
        return self

    def octets(self) -> bytes:
        """The bytes of an OCTET STRING, also of one in BER segments."""
        if self.tag & CONSTRUCTED:
            return b"".join(part.octets() for part in self.children())
        return self.content

    def integer(self) -> int:
        return int.from_bytes(self.expect(INTEGER).content, "big", signed=True)

    def oid(self) -> str:
        arcs: list[int] = []
        value = 0
        for byte in self.expect(OID).content:
            value = value << 7 | byte & 0x7F
            if not byte & 0x80:
                arcs.append(value)
                value = 0
        if not arcs:
            raise DerError("empty object identifier")
        first = min(arcs[0] // 40, 2)
        return ".".join(str(arc) for arc in (first, arcs[0] - 40 * first, *arcs[1:]))


def read(data: bytes) -> Node:
    """The one value that `data` is; anything behind it is an error."""
    node, end = _read_at(data, 0, 0)
    if end != len(data):
        raise DerError(f"{len(data) - end} bytes behind the value")
    return node


def read_all(data: bytes) -> list[Node]:
    nodes: list[Node] = []
    position = 0
    while position < len(data):
        node, position = _read_at(data, position, 0)
        nodes.append(node)
    return nodes


def _read_at(data: bytes, start: int, depth: int) -> tuple[Node, int]:
    if depth > MAX_DEPTH:
        raise DerError("values nest too deeply")
    if start + 2 > len(data):
        raise DerError("value ends before its length")
    tag, size, position = data[start], data[start + 1], start + 2
    if tag & _HIGH_TAG == _HIGH_TAG:
        raise DerError("tags above 30 do not occur in CMS")
    if size == _LONG_FORM:
        end = _end_of_indefinite(data, position, depth)
        return Node(tag, data[position:end], data[start : end + 2]), end + 2
    if size > _LONG_FORM:
        width = size & 0x7F
        size = int.from_bytes(data[position : position + width], "big")
        position += width
    if position + size > len(data):
        raise DerError("value is longer than its surroundings")
    end = position + size
    return Node(tag, data[position:end], data[start:end]), end


def _end_of_indefinite(data: bytes, position: int, depth: int) -> int:
    while data[position : position + 2] != b"\0\0":
        _, position = _read_at(data, position, depth + 1)
    return position
