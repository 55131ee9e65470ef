"""The one client for addresses that a person, a device or an identity provider supplies.

TLS, no redirects, no cookies, no proxies of the environment; addresses judged when they are
dialled; sizes and times bounded. Failures name the host and nothing else of the address.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Literal

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDictProxy
from yarl import URL

from shared.runtime import metrics
from shared.runtime.dialling import LOOPBACK, AddressRefused, Dialling
from shared.runtime.settings import Settings

__all__ = ["Limits", "Outbound", "OutboundFailed", "Reply", "opened"]

Why = Literal[
    "url_refused", "address_refused", "unreachable", "tls_failed", "slow", "too_large", "broken"
]
_PIECE: Final = 64 * 1024
_FORBIDDEN: Final = "\r\n\0"


class OutboundFailed(Exception):  # noqa: N818 (it says what happened)
    """No answer that counts; the text is fit for people and logs."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(detail)
        self.why: Why = why


@dataclass(frozen=True)
class Limits:
    """`size` in bytes, of the body as it is read; seconds else."""

    connect: float = 5.0
    total: float = 10.0
    size: int = 1024 * 1024


@dataclass(frozen=True)
class Reply:
    """What the other side said; a redirect is an answer like any other, and not followed."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes


class Outbound:
    """See `opened`."""

    def __init__(self, session: aiohttp.ClientSession, *, loopback: bool) -> None:
        self._session, self._loopback = session, loopback

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        data: bytes | None = None,
        limits: Limits | None = None,
    ) -> Reply:
        """Ask once; raises OutboundFailed."""
        limits = limits or Limits()
        try:
            reply = await self._ask(method, self.checked(url), headers or {}, data, limits)
        except OutboundFailed as failed:
            metrics.OUTBOUND_REQUESTS.labels(failed.why).inc()
            raise
        metrics.OUTBOUND_REQUESTS.labels("answered").inc()
        return reply

    def checked(self, url: str) -> URL:
        """The address, if it is one that we would ask; raises OutboundFailed."""
        try:
            parsed = URL(url)
            host, port = parsed.host, parsed.port
        except ValueError:
            raise _no_address() from None
        if host is None or port is None or any(char in url for char in _FORBIDDEN):
            raise _no_address()
        if parsed.user is not None or parsed.password is not None or parsed.fragment:
            detail = f"The address at {host} must have no name, password or fragment in it."
            raise OutboundFailed("url_refused", detail)
        if parsed.scheme != "https" and not (
            parsed.scheme == "http" and self._loopback and _is_loopback(host)
        ):
            raise OutboundFailed("url_refused", f"The address at {host} must begin with https://.")
        return parsed

    async def _ask(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        data: bytes | None,
        limits: Limits,
    ) -> Reply:
        host = url.host
        try:
            async with (
                asyncio.timeout(limits.total),
                self._session.request(
                    method,
                    url,
                    headers={"Accept-Encoding": "identity", **headers},
                    data=data,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, connect=limits.connect),
                ) as response,
            ):
                body = await _read(response, limits.size)
                return Reply(response.status, response.headers, body)
        except (TimeoutError, aiohttp.ServerTimeoutError):
            raise OutboundFailed("slow", f"{host} took too long to answer.") from None
        except (aiohttp.ClientSSLError, ssl.SSLError):
            detail = f"{host} could not prove who it is (TLS)."
            raise OutboundFailed("tls_failed", detail) from None
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, AddressRefused):
                detail = f"{host} is at an address that Muster does not call."
                raise OutboundFailed("address_refused", detail) from None
            raise OutboundFailed("unreachable", f"{host} cannot be reached.") from None
        except aiohttp.InvalidURL:
            raise _no_address() from None
        except (aiohttp.ClientError, OSError, ValueError, zlib.error):
            raise OutboundFailed("broken", f"{host} did not answer as a server should.") from None


async def _read(response: aiohttp.ClientResponse, size: int) -> bytes:
    """The body, never more than `size` bytes of it in memory, as they came and as they unpack."""
    host = response.url.host
    packed = bytearray()
    async for chunk in response.content.iter_chunked(_PIECE):
        packed += chunk
        if len(packed) > size:
            raise _too_large(host)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return bytes(packed)
    if encoding != "gzip":
        raise OutboundFailed("broken", f"{host} answered in an encoding that was not asked for.")
    unpacker = zlib.decompressobj(16 + zlib.MAX_WBITS)
    body = unpacker.decompress(bytes(packed), size + 1)
    if len(body) > size:
        raise _too_large(host)
    if not unpacker.eof:
        raise OutboundFailed("broken", f"{host} did not send all that it began.")
    return body


def _no_address() -> OutboundFailed:
    return OutboundFailed("url_refused", "This is no address of a server.")


def _too_large(host: str | None) -> OutboundFailed:
    return OutboundFailed("too_large", f"{host} answered more than is read.")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@asynccontextmanager
async def opened(
    settings: Settings, *, resolver: AbstractResolver | None = None
) -> AsyncIterator[Outbound]:
    """The client, for as long as a service runs; names are asked for anew at every dial."""
    networks = [*settings.outbound_networks, *(LOOPBACK if settings.outbound_loopback else ())]
    trusted = ssl.create_default_context(cafile=settings.outbound_ca_file)
    trusted.minimum_version = ssl.TLSVersion.TLSv1_2
    connector = aiohttp.TCPConnector(
        ssl=trusted,
        resolver=resolver or aiohttp.ThreadedResolver(),
        use_dns_cache=False,
        socket_factory=Dialling(networks).socket_for,
        limit=100,
        limit_per_host=8,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        headers={"User-Agent": "Muster"},
        max_line_size=8190,
        max_field_size=8190,
    ) as session:
        yield Outbound(session, loopback=settings.outbound_loopback)
