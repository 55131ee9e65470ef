"""How one device's requests travel: headers, signature, method, and patience with a busy server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import aiohttp

from tools.simulator.signing import HONEST, Signing
from tools.simulator.wire.cms import Identity
from tools.simulator.wire.messages import Reply

_BUSY = 503
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0


@dataclass(slots=True)
class Link:
    """The habits of one device on the wire. `patience`: how often `patiently` tries again."""

    session: aiohttp.ClientSession | None = None
    signing: Signing = HONEST
    method: str = "PUT"
    content_types: bool = True
    patience: int = 0
    user_agent: str = "MDM/1.0"

    def headers(
        self,
        body: bytes,
        content_type: str | None,
        identity: Identity | None = None,
        signing: Signing | None = None,
    ) -> dict[str, str]:
        """The headers of a request; without `identity` it goes unsigned."""
        headers = {"User-Agent": self.user_agent}
        if content_type is not None and self.content_types:
            headers["Content-Type"] = content_type
        if identity is not None:
            headers |= (signing or self.signing).headers(body, identity)
        return headers

    async def request(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str]
    ) -> Reply:
        if self.session is None:
            raise RuntimeError("the device has no session: give it one, or enroll with one")
        skip = () if "Content-Type" in headers else ("Content-Type",)
        async with self.session.request(
            method, url, data=body or None, headers=headers, skip_auto_headers=skip
        ) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def patiently(
        self, method: str, url: str, body: bytes, headers: Mapping[str, str]
    ) -> Reply:
        """Send, and again `patience` times while the server is busy or away."""
        for attempt in range(self.patience):
            wait = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT)
            try:
                reply = await self.request(method, url, body, headers)
            except (aiohttp.ClientConnectionError, TimeoutError):
                await asyncio.sleep(wait)
                continue
            if reply.status != _BUSY:
                return reply
            asked = reply.headers.get("Retry-After", "")
            await asyncio.sleep(min(float(asked), _LONGEST_WAIT) if asked.isdigit() else wait)
        return await self.request(method, url, body, headers)
