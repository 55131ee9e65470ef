"""Calls from one service to another: few, listed in architecture §1, on the internal listener.

Every internal route can be called again with the same effect: a call whose connection breaks off,
because the process behind it was replaced, is made once more, to whichever answers then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Answered:
    """What a service said; a refusal's body is its problem."""

    status: int
    body: dict[str, Any]


class InternalClient:
    """Asks other services in this one's name, with a token for each callee."""

    def __init__(self, urls: Mapping[str, str], signer: Signer) -> None:
        self._urls, self._signer = urls, signer
        self._session: aiohttp.ClientSession | None = None

    async def call(
        self, service: str, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """The JSON answer of a 2xx; raises InternalCallFailed for everything else."""
        token = self._signer.internal(service)
        try:
            try:
                answer = await self._send(service, method, path, body, token)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                answer = await self._send(service, method, path, body, token)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unanswered(service, error) from None
        if answer.status // 100 != _SUCCESS:
            raise InternalCallFailed(service, answer.status, f"answered {answer.status}")
        return answer.body

    async def for_person(
        self,
        service: str,
        method: str,
        path: str,
        token: str,
        body: Mapping[str, Any] | None = None,
    ) -> Answered:
        """What the service's API answers to a person's own token, refusals too (decision 38).

        Asked once: not everything that people ask for may be done twice. Raises InternalCallFailed
        when there is no answer.
        """
        try:
            return await self._send(service, method, path, body, token)
        except (aiohttp.ClientError, TimeoutError) as error:
            raise _unanswered(service, error) from None

    async def _send(
        self, service: str, method: str, path: str, body: Mapping[str, Any] | None, token: str
    ) -> Answered:
        base = self._urls.get(service)
        if base is None:
            raise InternalCallFailed(service, None, "MUSTER_INTERNAL_URLS does not name it")
        headers, data = _headers(token), None
        if body is not None:
            data = orjson.dumps(body, default=str)
            headers["Content-Type"] = "application/json"
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=TIMEOUT)
        request = self._session.request(
            method, base.rstrip("/") + path, data=data, headers=headers, allow_redirects=False
        )
        async with request as response:
            if (response.content_length or 0) > _MAX_ANSWER:
                raise InternalCallFailed(service, response.status, "answered too much")
            said = _object(service, response.status, await response.read())
            return Answered(response.status, said)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


def _headers(token: str) -> dict[str, str]:
    headers = {"Authorization": f"Bearer {token}"}
    if correlation := correlation_id.get():
        headers["X-Correlation-Id"] = correlation
    if traceparent := current_traceparent():
        headers["traceparent"] = traceparent
    return headers


def _object(service: str, status: int, data: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(data or b"{}")
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        raise InternalCallFailed(service, status, "answered no object")
    return answer


def _unanswered(service: str, error: Exception) -> InternalCallFailed:
    return InternalCallFailed(service, None, f"no answer ({type(error).__name__})")
