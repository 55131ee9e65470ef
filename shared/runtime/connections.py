"""What connections may cost: aiohttp has no limit on any of these.

A header section that trickles in is cut off after ten seconds (security.md, The edge), and so is a
peer that does not read its answer. A listener holds a bounded number of connections, and a bounded
number of bytes of bodies.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections import Counter
from collections.abc import Coroutine
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from shared.db.batcher import Overloaded
from shared.runtime import metrics
from shared.runtime.settings import Listener

HEADER_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 75.0
READ_SECONDS = 30.0
"""How long a peer may read nothing of an answer of which more waits than the system buffers."""
MOST_BODIES = 64 * 1024 * 1024
BACKLOG = 1024
_HANDSHAKE_SECONDS = 10.0
_FIELD_BYTES = {"devices": 16 * 1024, "api": 8 * 1024, "internal": 8 * 1024}

log = logging.getLogger(__name__)

# Read when the gauge is: a request has no time for that.
_bodies: Counter[str] = Counter()
for _name in _FIELD_BYTES:
    metrics.BODY_BYTES.labels(_name).set_function(partial(_bodies.__getitem__, _name))


class Gate:
    """Counts the open connections of a listener, and the bytes of bodies in their hands."""

    def __init__(
        self,
        listener: str,
        limit: int,
        header_seconds: float = HEADER_SECONDS,
        *,
        most_bodies: int = MOST_BODIES,
        read_seconds: float = READ_SECONDS,
    ) -> None:
        self.listener, self.header_seconds = listener, header_seconds
        self.read_seconds = read_seconds
        self._most_bodies, self._bodies = most_bodies, 0
        self.draining = False
        """Set before the end: every answer then tells its peer to connect elsewhere."""
        self._limit, self._open = limit, 0

    @property
    def empty(self) -> bool:
        return not self._open

    def enter(self) -> bool:
        if self._open >= self._limit:
            self.refused("full")
            return False
        self._open += 1
        metrics.CONNECTIONS.labels(self.listener).inc()
        return True

    def leave(self) -> None:
        self._open -= 1
        metrics.CONNECTIONS.labels(self.listener).dec()

    def hold(self, size: int) -> None:
        """Count bytes of a body; raises Overloaded when all of them together are too many."""
        if self._bodies + size > self._most_bodies:
            metrics.BODIES_REFUSED.labels(self.listener).inc()
            raise Overloaded(f"{self.listener}: {self._bodies} bytes of bodies are in memory")
        self._bodies += size
        _bodies[self.listener] += size

    def let_go(self, size: int) -> None:
        self._bodies -= size
        _bodies[self.listener] -= size

    def refused(self, reason: str) -> None:
        metrics.CONNECTIONS_REFUSED.labels(self.listener, reason).inc()


class LimitedConnection(RequestHandler):
    """aiohttp's connection with a gate in front, and timers on what its peer sends and reads."""

    __slots__ = ("_entered", "_gate", "_header_timer", "_held", "_parser_paused", "_read_timer")

    def __init__(self, manager: web.Server, gate: Gate, **options: Any) -> None:
        super().__init__(manager, **options)
        self._gate = gate
        self._entered = False
        self._header_timer: asyncio.TimerHandle | None = None
        self._read_timer: asyncio.TimerHandle | None = None
        self._held = 0
        self._parser_paused = False

    def hold(self, size: int) -> None:
        """Count bytes of the request's body until it is answered; raises Overloaded."""
        self._gate.hold(size)
        self._held += size

    @property
    def draining(self) -> bool:
        """Whether the listener is about to end."""
        return self._gate.draining

    def _let_go(self) -> None:
        if self._held:
            self._gate.let_go(self._held)
            self._held = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._entered = self._gate.enter()
        if not self._entered:
            # uvloop's TLS transport does not inherit from asyncio.Transport.
            cast("asyncio.Transport", transport).abort()
            return
        super().connection_made(transport)
        self._start_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        self._stop_read_timer()
        self._let_go()
        if self._entered:
            self._entered = False
            self._gate.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._stop_timer()
        elif self._header_timer is None and not self._busy():
            # The first bytes of the next request on a kept-alive connection.
            self._start_timer()

    def pause_reading(self) -> None:
        self._parser_paused = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 (aiohttp's)
        """Called for each piece of a body that is read, while nearly none was ever paused.

        A body that ends while it is paused resumes the connection and leaves the parser, which may
        hold the next request, to the next call.
        """
        if self._reading_paused or (resume_parser and self._parser_paused):
            if resume_parser:
                self._parser_paused = False
            super().resume_reading(resume_parser)

    def pause_writing(self) -> None:
        """More waits than the system buffers: from now on the peer has to read."""
        super().pause_writing()
        self._stop_read_timer()
        self._look_at_reader(None)

    def _look_at_reader(self, before: int | None) -> None:
        """Cut off a peer that has read nothing since the last look; slowly is good enough."""
        self._read_timer = None
        if self.transport is None:
            return
        waiting = self.transport.get_write_buffer_size()
        if before is not None and waiting >= before:
            self._gate.refused("slow_reader")
            # Not closed: that would wait until the peer has read.
            self.transport.abort()
            return
        seconds = self._gate.read_seconds
        self._read_timer = self._loop.call_later(seconds, self._look_at_reader, waiting)

    def resume_writing(self) -> None:
        self._stop_read_timer()
        super().resume_writing()

    def _stop_read_timer(self) -> None:
        if self._read_timer is not None:
            self._read_timer.cancel()
            self._read_timer = None

    def _busy(self) -> bool:
        return bool(self._messages) or self._request_in_progress

    def _start_timer(self) -> None:
        self._header_timer = self._loop.call_later(self._gate.header_seconds, self._too_slow)

    def _stop_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _too_slow(self) -> None:
        self._header_timer = None
        if not self._busy():
            self._gate.refused("slow_header")
            self.force_close()

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        self._let_go()
        if self._gate.draining:
            # `Connection: close`: whoever is told does not run into our end with its next request.
            resp.force_close()
        return super().finish_response(request, resp, start_time)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 (it quotes what the peer sent)
    ) -> web.StreamResponse:
        """What is no HTTP gets a short answer that repeats none of it."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            log.error("A request failed outside of its route", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("the answer has begun already")
        response = web.Response(status=status, text=f"{HTTPStatus(status).phrase}\n")
        response.force_close()
        return response


class LimitedSite(web.BaseSite):
    """A listening socket whose connections are limited: one of its own, or one inherited."""

    __slots__ = ("_fd", "_gate", "_listener")

    def __init__(
        self, runner: web.AppRunner, listener: Listener, gate: Gate, fd: int | None = None
    ) -> None:
        super().__init__(runner, ssl_context=_tls(listener), backlog=BACKLOG)
        self._listener, self._gate, self._fd = listener, gate, fd

    @property
    def is_inherited(self) -> bool:
        """Whether siblings accept from the same socket."""
        return self._fd is not None

    @property
    def speaks_tls(self) -> bool:
        return self._ssl_context is not None

    @property
    def name(self) -> str:
        scheme = "https" if self._ssl_context else "http"
        return f"{scheme}://{self._listener.host}:{self.port}"

    @property
    def port(self) -> int:
        """The port in use; settings may say 0 for any free one."""
        sockets = getattr(self._server, "sockets", None)
        return sockets[0].getsockname()[1] if sockets else self._listener.port

    async def start(self) -> None:
        await super().start()
        where: dict[str, Any] = {"host": self._listener.host, "port": self._listener.port}
        if self._fd is not None:
            # A copy: closing it leaves the socket, and its one queue of peers, to the siblings.
            where = {"sock": socket.socket(fileno=os.dup(self._fd))}
        self._server = await asyncio.get_running_loop().create_server(
            self._accept,
            ssl=self._ssl_context,
            backlog=self._backlog,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS if self._ssl_context else None,
            **where,
        )

    def _accept(self) -> RequestHandler:
        server = self._runner.server
        if server is None:
            raise RuntimeError("the runner is not set up")
        loop = asyncio.get_running_loop()
        return LimitedConnection(server, self._gate, loop=loop, **_options(self._listener))


def _options(listener: Listener) -> dict[str, Any]:
    return {
        "access_log": None,
        "auto_decompress": False,
        "keepalive_timeout": KEEP_ALIVE_SECONDS,
        "max_field_size": _FIELD_BYTES[listener.name],
        "lingering_time": 5.0,
    }


def _tls(listener: Listener) -> ssl.SSLContext | None:
    if listener.cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(listener.cert, listener.key)
    return context
