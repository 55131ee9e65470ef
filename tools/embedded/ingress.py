"""One address for people and one for devices, in front of services that run as their own processes:
what an ingress does on Kubernetes, for load and fault tests on one machine.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from tools.cli.local_tls import ServerTls

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "host", "content-length"})
_LARGEST = 80 * 1024 * 1024

# Which service answers under which prefix (architecture §4); the longest prefix wins.
PREFIXES = {
    "/mdm/apple/connect": "command_queue",
    "/mdm/apple/checkin": "enrollment",
    "/enroll/": "enrollment",
    "/scep/": "enrollment",
    "/pki/": "enrollment",
    "/api/v1/enrollment": "enrollment",
    "/api/v1/commands": "command_queue",
    "/api/v1/push": "push_notifier",
    "/api/v1/inventory": "inventory",
    "/api/v1/compliance": "compliance",
    "/api/v1/configuration": "configuration",
    "/api/v1/console": "console",
}


@dataclass
class Ingress:
    """Routes by prefix; a service that is away is a 503, as devices know it from real ones."""

    port: int
    upstreams: Mapping[str, str]
    """Service name to base URL, of its devices or of its api listener."""
    tls: ServerTls | None = None
    """Certificate and key: then it speaks https only, as devices demand."""
    _runner: web.AppRunner | None = field(default=None, init=False)
    _session: aiohttp.ClientSession | None = field(default=None, init=False)

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(60), max_line_size=32_768
        )
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_route("*", "/{path:.*}", self._forward)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=1, max_line_size=32_768, max_field_size=32_768
        )
        await self._runner.setup()
        context = None
        if self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.tls.cert, self.tls.key)
        await web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=context).start()

    async def stop(self) -> None:
        if self._runner and self._session:
            await self._runner.cleanup()
            await self._session.close()

    async def _forward(self, request: web.Request) -> web.Response:
        prefix = max((p for p in PREFIXES if request.path.startswith(p)), key=len, default=None)
        if prefix is None or self._session is None:
            return web.Response(status=404)
        upstream = self.upstreams[PREFIXES[prefix]] + request.raw_path
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        body = await request.read()
        try:
            async with self._session.request(
                request.method, upstream, data=body or None, headers=headers, allow_redirects=False
            ) as answer:
                kept = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)
        except (aiohttp.ClientError, TimeoutError):
            return web.Response(status=503, headers={"Retry-After": "1"})
