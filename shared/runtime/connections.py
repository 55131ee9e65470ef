"""What one connection may do before it is a request: aiohttp has no limit on either of these.

A header section that trickles in is cut off after ten seconds (security.md, The edge), and a
listener holds a bounded number of connections.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import Coroutine
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from shared.runtime import metrics
from shared.runtime.settings import Listener

HEADER_SECONDS = 10.0
KEEP_ALIVE_SECONDS = 75.0
BACKLOG = 1024
_HANDSHAKE_SECONDS = 10.0
_FIELD_BYTES = {"devices": 16 * 1024, "api": 8 * 1024, "internal": 8 * 1024}

log = logging.getLogger(__name__)


class Gate:
    """Counts the open connections of a listener."""

    def __init__(self, listener: str, limit: int, header_seconds: float = HEADER_SECONDS) -> None:
        self.listener, self.header_seconds = listener, header_seconds
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

    def refused(self, reason: str) -> None:
        metrics.CONNECTIONS_REFUSED.labels(self.listener, reason).inc()


class LimitedConnection(RequestHandler):
    """aiohttp's connection with a gate in front and a timer on every header section."""

    __slots__ = ("_entered", "_gate", "_header_timer")

    def __init__(self, manager: web.Server, gate: Gate, **options: Any) -> None:
        super().__init__(manager, **options)
        self._gate = gate
        self._entered = False
        self._header_timer: asyncio.TimerHandle | None = None

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
