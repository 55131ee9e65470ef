"""The HTTP session of a fleet: what it trusts, and that it stays on this machine unless told."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from pathlib import Path

import aiohttp

_DEFAULT_LIMIT = 100
TIMEOUT = aiohttp.ClientTimeout(total=120, sock_connect=10)


class RemoteAddressError(aiohttp.ClientError):
    """A URL leads off this machine and `--allow-remote` was not given."""


def open_session(
    trust: Path | None = None, *, allow_remote: bool = False, limit: int = _DEFAULT_LIMIT
) -> aiohttp.ClientSession:
    """A session for any number of devices. `trust` is a PEM file of the only accepted roots."""
    context = ssl.create_default_context(cafile=str(trust) if trust else None)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=context, limit=limit),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=TIMEOUT,
        middlewares=() if allow_remote else (StayOnThisMachine(),),
    )


class StayOnThisMachine:
    """Refuses every request, redirects included, whose host is not a loopback address."""

    def __init__(self) -> None:
        self._local: set[str] = set()

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        host = request.url.host or ""
        if host not in self._local:
            if not await _is_loopback(host):
                raise RemoteAddressError(
                    f"{host} is not on this machine: give --allow-remote to simulate against it"
                )
            self._local.add(host)
        return await handler(request)


async def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        pass
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(address[0]).is_loopback for *_, address in found)
