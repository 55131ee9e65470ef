"""HTTP answers, read no further than needed: status, body, whether the server closes."""

from __future__ import annotations

from typing import NamedTuple

_END = b"\r\n\r\n"
_LENGTH = b"\r\nContent-Length: "
_LENGTH_LOWER = b"\r\ncontent-length:"
_CLOSE = b"\r\nConnection: close"
_CHUNKED = b"\r\ntransfer-encoding: chunked"
_CLOSE_LOWER = b"\r\nconnection: close"


class Answer(NamedTuple):
    status: int
    body: bytes
    closes: bool = False


def parse(data: bytes) -> Answer | None:
    """The one answer in `data`, or None while it is not complete.

    Raises ValueError for what is no HTTP/1.1 answer, or one whose end cannot be told.
    """
    end = data.find(_END)
    if end < 0:
        return None
    at = data.find(_LENGTH, 0, end)
    if at < 0:
        return _unusual(data, end)
    begin, digits = end + 4, data[at + 18 : data.find(b"\r\n", at + 18)]
    size = int(digits)
    if len(data) < begin + size:
        return None
    return Answer(int(data[9:12]), data[begin : begin + size], data.find(_CLOSE, 0, end) >= 0)


def _unusual(data: bytes, end: int) -> Answer | None:
    """Names of headers in another case, and bodies in chunks (RFC 9112 §7.1)."""
    head = data[:end].lower()
    status, closes = int(head[9:12]), _CLOSE_LOWER in head
    at = (head + b"\r\n").find(_LENGTH_LOWER)
    if at >= 0:
        size = int(head[at + 17 :].partition(b"\r\n")[0])
        body = data[end + 4 : end + 4 + size]
        return Answer(status, body, closes) if len(body) == size else None
    if _CHUNKED not in head:
        raise ValueError("the server answered without Content-Length")
    body_or_none = _chunks(data, end + 4)
    return None if body_or_none is None else Answer(status, body_or_none, closes)


def _chunks(data: bytes, at: int) -> bytes | None:
    body = b""
    while True:
        line_end = data.find(b"\r\n", at)
        if line_end < 0:
            return None
        size = int(data[at:line_end].partition(b";")[0], 16)
        at = line_end + 2
        if len(data) < at + size + 2:
            return None
        if size == 0:
            return body
        body += data[at : at + size]
        at += size + 2
