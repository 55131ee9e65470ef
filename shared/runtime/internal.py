"""Calls from one service to another: few, listed in architecture §1, on the internal listener.

Every internal route can be called again with the same effect: a call whose connection breaks off,
because the process behind it was replaced, is made once more, to whichever answers then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson

from shared.bus.context import correlation_id
from shared.bus.tracing import current_traceparent
from shared.runtime.tokens import Signer

TIMEOUT = aiohttp.ClientTimeout(total=10, connect=3)
_MAX_ANSWER = 8 * 1024 * 1024
_SUCCESS = 2  # the first digit of the status


class InternalCallFailed(Exception):  # noqa: N818 (the contract's name)
    """The other service could not be asked, or refused; `status` is None when it did not answer."""

    def __init__(self, service: str, status: int | None, why: str) -> None:
        super().__init__(f"{service}: {why}")
        self.service = service
        self.status = status


class InternalClient:
    """Asks other services in this one's name, with a token for each callee."""

    def __init__(self, urls: Mapping[str, str], signer: Signer) -> None:
        self._urls, self._signer = urls, signer
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self, service: str, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The JSON answer of a 2xx; raises InternalCallFailed for everything else."""
        base = self._urls.get(service)
        if base is None:
            raise InternalCallFailed(service, None, "MUSTER_INTERNAL_URLS does not name it")
        headers = {"Authorization": f"Bearer {self._signer.internal(service)}"}
        if correlation := correlation_id.get():
            headers["X-Correlation-Id"] = correlation
        if traceparent := current_traceparent():
            headers["traceparent"] = traceparent
        url = base.rstrip("/") + path
        try:
            try:
                return await self._send(service, method, url, body, headers)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                return await self._send(service, method, url, body, headers)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise InternalCallFailed(service, None, f"no answer ({type(error).__name__})") from None

    async def _send(
        self,
        service: str,
        method: str,
        url: str,
        body: Mapping[str, Any] | None,
        headers: dict[str, str],
    ) -> dict[str, Any]:
        data = None if body is None else orjson.dumps(body, default=str)
        if data is not None:
            headers["Content-Type"] = "application/json"
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TIMEOUT)
        request = self._session.request(
            method, url, data=data, headers=headers, allow_redirects=False
        )
        async with request as response:
            if response.status // 100 != _SUCCESS:
                raise InternalCallFailed(service, response.status, f"answered {response.status}")
            if (response.content_length or 0) > _MAX_ANSWER:
                raise InternalCallFailed(service, response.status, "answered too much")
            answer = orjson.loads(await response.read() or b"{}")
            if not isinstance(answer, dict):
                raise InternalCallFailed(service, response.status, "answered no object")
            return answer

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
