"""The load: requests made beforehand, sent over kept connections, answers timed.

It parses no more of an answer than it must, so that two cores can also hold the server.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

_END = b"\r\n\r\n"
_LARGEST_HEAD = 64 * 1024


def http_request(method: str, path: str, host: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A whole HTTP/1.1 request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + _END + body


@dataclass
class Measured:
    """What came back: statuses, seconds each answer took, and the wall time of all."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return len(self.latencies)

    def quantile(self, part: float) -> float:
        """Milliseconds below which `part` of the answers came."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


Seen = Callable[[bytes, bytes], None]
"""Called with (request, answer body) for who wants to look."""


async def drive(
    host: str,
    port: int,
    requests: Iterable[bytes],
    *,
    connections: int = 16,
    seen: Seen | None = None,
) -> Measured:
    """Send every request once, `connections` at a time, each connection kept.

    A connection that the server closes is opened again; a request without an answer counts as
    status 0 and is not repeated.
    """
    measured, queue = Measured(), iter(requests)
    started = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_connection(host, port, queue, measured, seen))
    measured.seconds = time.perf_counter() - started
    return measured


async def _connection(
    host: str, port: int, queue: Iterator[bytes], measured: Measured, seen: Seen | None
) -> None:
    reader, writer = await asyncio.open_connection(host, port, limit=_LARGEST_HEAD)
    for request in queue:
        began = time.perf_counter()
        try:
            writer.write(request)
            status, body = await _answer(reader)
        except (OSError, asyncio.IncompleteReadError):
            status, body = 0, b""
            reader, writer = await asyncio.open_connection(host, port, limit=_LARGEST_HEAD)
        measured.latencies.append(time.perf_counter() - began)
        measured.statuses[status] += 1
        if seen:
            seen(request, body)
    writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(_END)).lower()
    at = head.find(b"content-length:")
    if at < 0:
        raise ValueError("the server answered without Content-Length")
    length = int(head[at + 15 : head.index(b"\r\n", at)])
    return int(head[9:12]), await reader.readexactly(length) if length else b""
