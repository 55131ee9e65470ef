"""The load: requests made beforehand, sent over few connections, answers timed.

It shares two cores with the servers, so it does little: bytes in, bytes out, and of an answer only
what tells its end. It runs in a process of its own (`generator`), so that its CPU is known apart.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.bench.answers import Answer, parse
from tools.bench.scripts import Script

FAILED = 0
"""The status of a request that got no answer: the connection broke."""
_SUCCESSES = range(200, 300)
_NONE = Answer(FAILED, b"", closes=True)
_RETRY_SECONDS = 0.05
_MOST_REFUSALS = 200
_LOOK_SECONDS = 0.001


def http_request(method: str, path: str, host: str, body: bytes, headers: dict[str, str]) -> bytes:
    """A whole HTTP/1.1 request as bytes."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass(frozen=True)
class Target:
    """Where requests go. `authority`: TLS, trusted by this PEM file. Picklable."""

    host: str
    port: int
    authority: Path | None = None

    def context(self) -> ssl.SSLContext | None:
        if self.authority is None:
            return None
        return ssl.create_default_context(cafile=str(self.authority))


@dataclass(frozen=True)
class Manner:
    """How a script is sent.

    Closed loop: each connection sends its next request when the last is answered. With `rate`
    requests start at planned times, and latency counts from the plan. `keep_alive` False: a new
    connection for each request, its making included in the latency.
    """

    connections: int = 16
    rate: float | None = None
    keep_alive: bool = True
    keep_bodies: bool = False
    keep_times: bool = False
    limit_seconds: float = 300.0


@dataclass
class Measured:
    """What came back: statuses, seconds each answer took, the wall time and the CPU of the load."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies: array[float] = field(default_factory=lambda: array("d"))
    bodies: dict[int, bytes] = field(default_factory=dict)
    """With `keep_bodies`: the answers, by the place of their request in the script."""
    times: list[tuple[int, float, float]] = field(default_factory=list)
    """With `keep_times`: place, when sent (or planned) and when answered, on `perf_counter`, which
    is the machine's own clock and the same in all processes."""
    unfinished: str | None = None
    """Why not everything was sent: the time was over, or the server refused connections."""

    @property
    def requests(self) -> int:
        return len(self.latencies)

    @property
    def wrong(self) -> int:
        """Requests that were not answered 2xx."""
        return sum(n for status, n in self.statuses.items() if status not in _SUCCESSES)

    def quantile(self, part: float) -> float:
        """Milliseconds below which `part` of the answers came."""
        ordered = sorted(self.latencies)
        return 1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else 0.0


def together(parts: Sequence[Measured]) -> Measured:
    """Several runs after each other as one."""
    whole = Measured()
    for part in parts:
        whole.seconds += part.seconds
        whole.cpu_seconds += part.cpu_seconds
        whole.statuses += part.statuses
        whole.latencies.extend(part.latencies)
        whole.unfinished = whole.unfinished or part.unfinished
    return whole


async def drive(target: Target, script: Script, manner: Manner) -> Measured:
    """Send what the script says until it is over; nothing is sent twice."""
    run = _Run(target, script, manner)
    cpu, started = time.process_time(), time.perf_counter()
    script.begin(started)
    await run.finished()
    run.measured.seconds = time.perf_counter() - started
    run.measured.cpu_seconds = time.process_time() - cpu
    return run.measured


class _Run:
    """One measurement: its open connections, and what they have seen."""

    def __init__(self, target: Target, script: Script, manner: Manner) -> None:
        self.script, self.manner, self.measured = script, manner, Measured()
        self._target, self._context = target, target.context()
        self._loop = asyncio.get_running_loop()
        self._open = 0
        self._refused = 0
        self._connections: set[_Connection] = set()
        self._dials: set[asyncio.Task[None]] = set()
        self._done = asyncio.Event()
        self.idle: list[_Connection] = []
        """Open loop: who waits for the next planned time."""
        self.due: deque[tuple[float, list[int], bytes]] = deque()
        """Open loop: planned, and no connection was free."""

    async def finished(self) -> None:
        for _ in range(self.manner.connections):
            self._begin()
        clock = None
        if self.manner.rate:
            clock = self._loop.create_task(self._keep_time(self.manner.rate))
        try:
            async with asyncio.timeout(self.manner.limit_seconds):
                await self._done.wait()
        except TimeoutError:
            self.measured.unfinished = f"stopped after {self.manner.limit_seconds:g} s"
        finally:
            for task in [*self._dials, *([clock] if clock else [])]:
                task.cancel()
            for connection in list(self._connections):
                connection.stop()

    def _begin(self) -> None:
        place = [0]
        request = None if self.manner.rate else self.script.first(place)
        if request is not None or self.manner.rate:
            self.dial(place, request)
        elif not self._open:
            self._done.set()

    def dial(self, place: list[int], request: bytes | None) -> None:
        """Open a connection that begins with this request; only for one that is to be sent."""
        self._open += 1
        task = self._loop.create_task(self._dial(_Connection(self, place, request)))
        self._dials.add(task)
        task.add_done_callback(self._dials.discard)

    async def _dial(self, connection: _Connection) -> None:
        name = "localhost" if self._context else None
        while True:
            try:
                await self._loop.create_connection(
                    lambda: connection,
                    self._target.host,
                    self._target.port,
                    ssl=self._context,
                    server_hostname=name,
                )
            except OSError as error:
                self._refused += 1
                if self._refused > _MOST_REFUSALS:
                    self.measured.unfinished = f"connections refused: {error}"
                    self._done.set()
                    return
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    def joined(self, connection: _Connection) -> None:
        self._connections.add(connection)

    def left(self, connection: _Connection) -> None:
        """A connection is gone, and what it had left to do has been dialled for."""
        self._connections.discard(connection)
        self._open -= 1
        if not self._open:
            self._done.set()

    def record(self, began: float, answer: Answer, place: int) -> None:
        now = time.perf_counter()
        self.measured.latencies.append(now - began)
        self.measured.statuses[answer.status] += 1
        if self.manner.keep_times:
            self.measured.times.append((place, began, now))
        if self.manner.keep_bodies:
            self.measured.bodies[place] = answer.body

    async def _keep_time(self, rate: float) -> None:
        """Hand out requests when they are planned, whether or not a connection is free."""
        while len(self.idle) < self.manner.connections:  # noqa: ASYNC110 - nothing is timed yet
            await asyncio.sleep(_LOOK_SECONDS)
        started = time.perf_counter()
        self.script.begin(started)
        planned = 0
        while True:
            while (at := started + planned / rate) <= time.perf_counter():
                place = [0]
                request = self.script.first(place)
                if request is None:
                    await self._drained()
                    return
                if self.idle:
                    self.idle.pop().visit(place, request, at)
                else:
                    self.due.append((at, place, request))
                planned += 1
            await asyncio.sleep(max(0.0, at - time.perf_counter()))

    async def _drained(self) -> None:
        while self.due or len(self.idle) < self._open:  # noqa: ASYNC110 - at the end only
            await asyncio.sleep(_LOOK_SECONDS)
        self._done.set()


class _Connection(asyncio.Protocol):
    """One connection: one request is out at most."""

    __slots__ = ("_asked", "_began", "_ended", "_place", "_rest", "_run", "_transport")

    def __init__(self, run: _Run, place: list[int], request: bytes | None) -> None:
        self._run, self._place, self._asked = run, place, request
        self._rest = b""
        self._ended = False
        self._began = time.perf_counter()
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._run.joined(self)
        if self._run.manner.rate:
            self._wait()
        elif self._asked is not None:
            keeps = self._run.manner.keep_alive
            self.send(self._asked, time.perf_counter() if keeps else self._began)

    def send(self, request: bytes, began: float) -> None:
        self._asked, self._began = request, began
        if self._transport is not None:
            self._transport.write(request)

    def visit(self, place: list[int], request: bytes, planned: float) -> None:
        """Open loop: the next device's turn."""
        self._place = place
        self.send(request, planned)

    def stop(self) -> None:
        self._ended = True
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        answer = parse(data)
        if answer is None:
            self._rest = data
            return
        self._rest = b""
        self._asked = None
        self._run.record(self._began, answer, self._place[0])
        if self._run.manner.rate:
            more = self._run.script.then(self._place, answer)
            if more is None:
                self._wait()
            else:
                self.send(more, time.perf_counter())
        elif self._run.manner.keep_alive and not answer.closes:
            self._go_on(answer)
        else:
            self._go_on_elsewhere(answer)

    def connection_lost(self, error: Exception | None) -> None:
        del error
        if self in self._run.idle:
            self._run.idle.remove(self)
        if not self._ended:
            if self._asked is not None:
                self._run.record(self._began, _NONE, self._place[0])
            if self._run.manner.rate:
                self._run.dial(self._place, None)
            else:
                self._go_on_elsewhere(None)
        self._run.left(self)

    def _go_on(self, answer: Answer) -> None:
        script = self._run.script
        request = script.then(self._place, answer) or script.first(self._place)
        if request is None:
            self._close()
        else:
            self.send(request, time.perf_counter())

    def _go_on_elsewhere(self, answer: Answer | None) -> None:
        """The next request goes over a connection of its own."""
        script = self._run.script
        request = (answer and script.then(self._place, answer)) or script.first(self._place)
        if request is not None:
            self._run.dial(self._place, request)
        self._close()

    def _close(self) -> None:
        self._ended = True
        if self._transport is not None:
            self._transport.close()

    def _wait(self) -> None:
        """Open loop: take what is overdue, or wait for the next planned time."""
        if self._run.due:
            at, place, request = self._run.due.popleft()
            self.visit(place, request, at)
        else:
            self._run.idle.append(self)
