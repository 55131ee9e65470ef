"""A stand-in for Apple's push service: HTTP/2 with client certificates, able to misbehave.

Checked against Apple's "Sending notification requests to APNs" and "Handling notification
responses from APNs". The side port (plain HTTP, loopback) plays what surrounds APNs:

- `POST /portal/certificate` (body: CSR in PEM) signs a push certificate, as Apple's portal does;
  with `?topic=` it renews the one of that topic;
- `GET /simulator/stream`: one JSON line a push, for simulated devices; pushes that came while
  nobody listened are kept as APNs keeps them: the last one a token, until it expires;
- `POST /simulator/answers`: a rule for coming pushes; `GET /simulator/pushes`: what was received;
- `DELETE /simulator/answers` forgets the rules.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import signal
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from aiohttp import web

from tools.embedded.apns_authority import Authority
from tools.embedded.apns_http2 import Push, Reply, serve

_KEPT_PUSHES = 10_000


@dataclass
class Rule:
    """What to answer to the next `times` pushes for `token` (`*`: any)."""

    token: str = "*"  # noqa: S105 - a wildcard, not a secret
    status: int = 200
    reason: str = ""
    timestamp: int | None = None
    times: int | None = None
    goaway: bool = False
    drop: bool = False
    delay: float = 0.0

    def takes(self, token: str) -> bool:
        return self.token in ("*", token) and (self.times is None or self.times > 0)

    def reply(self) -> Reply:
        if self.times is not None:
            self.times -= 1
        return Reply(self.status, self.reason, self.timestamp, self.goaway, self.drop, self.delay)


@dataclass
class Stored:
    push: dict[str, Any]
    until: float


@dataclass
class ApnsStandIn:
    """One stand-in; `start()` gives it its ports (0 asks for free ones)."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = 0
    side_port: int = 0
    rules: list[Rule] = field(default_factory=list)
    received: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_KEPT_PUSHES))
    _stored: dict[str, Stored] = field(default_factory=dict)
    _streams: set[asyncio.Queue[dict[str, Any]]] = field(default_factory=set)
    _stop: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    @property
    def trust(self) -> Path:
        """The CA that signed the stand-in's server certificate (PEM)."""
        return self.folder / "ca.pem"

    @property
    def side_url(self) -> str:
        return f"http://{self.host}:{self.side_port}"

    async def start(self) -> None:
        self.authority = Authority.open(self.folder, self.host)
        server = await serve(self.answer, self.host, self.port, self.authority.server_context())
        self._stop.callback(server.close)
        self.port = server.sockets[0].getsockname()[1]
        runner = web.AppRunner(self._side(), access_log=None, shutdown_timeout=1)
        await runner.setup()
        self._stop.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, self.host, self.side_port)
        await site.start()
        self.side_port = runner.addresses[0][1]

    async def stop(self) -> None:
        for stream in self._streams:
            stream.put_nowait({})
        await self._stop.aclose()

    def answer(self, push: Push) -> Reply:
        """Decide one push: a rule first, then what APNs itself checks, then delivery."""
        rule = next((rule for rule in self.rules if rule.takes(push.token)), None)
        reply = rule.reply() if rule else push.refusal() or Reply(200)
        line = {"token": push.token, "topic": push.topic, "payload": push.payload}
        self.received.append(
            {**line, "status": reply.status, "headers": push.headers, "at": time.time()}
        )
        if reply.status == HTTPStatus.OK and not reply.drop:
            self._deliver(line, push.expires)
        return reply

    def _deliver(self, line: dict[str, Any], expires: float) -> None:
        if self._streams:
            for stream in self._streams:
                stream.put_nowait(line)
        elif expires > time.time():
            self._stored[line["token"]] = Stored(line, expires)

    def _side(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.post("/portal/certificate", self._sign),
                web.get("/simulator/stream", self._stream),
                web.get("/simulator/pushes", self._pushes),
                web.post("/simulator/answers", self._program),
                web.delete("/simulator/answers", self._forget),
            ]
        )
        return app

    async def _sign(self, request: web.Request) -> web.Response:
        pem = self.authority.push_certificate(await request.read(), request.query.get("topic"))
        return web.Response(body=pem, content_type="application/x-pem-file")

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        for stored in self._stored.values():
            if stored.until > time.time():
                queue.put_nowait(stored.push)
        self._stored.clear()
        self._streams.add(queue)
        try:
            async for line in _lines(queue):
                await response.write(line)
        except ConnectionError:
            pass  # the fleet went away; the next stream gets what is stored
        finally:
            self._streams.discard(queue)
        return response

    async def _pushes(self, _: web.Request) -> web.Response:
        return web.json_response(list(self.received))

    async def _program(self, request: web.Request) -> web.Response:
        self.rules.append(Rule(**await request.json()))
        return web.Response()

    async def _forget(self, _: web.Request) -> web.Response:
        self.rules.clear()
        return web.Response()


async def _lines(queue: asyncio.Queue[dict[str, Any]]) -> AsyncIterator[bytes]:
    while line := await queue.get():
        yield json.dumps(line).encode() + b"\n"


async def _run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    stand_in = ApnsStandIn(
        Path(arguments.folder), port=arguments.port, side_port=arguments.side_port
    )
    await stand_in.start()
    print(json.dumps({"port": stand_in.port, "side_url": stand_in.side_url}), flush=True)
    await stop.wait()
    await stand_in.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A local stand-in for Apple's push service.")
    parser.add_argument("--folder", required=True, help="where its keys are kept")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--side-port", type=int, default=0)
    asyncio.run(_run(parser.parse_args()))
