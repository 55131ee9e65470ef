"""Asks the services' APIs as the person at the terminal."""

from __future__ import annotations

import asyncio
import getpass
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from shared.runtime.clock import SystemClock
from shared.runtime.tokens import Signer
from shared.sealed import token_key
from tools.cli import place
from tools.cli.errors import CliError, Refused

PREFIXES = {
    "enrollment": "/api/v1/enrollment",
    "command_queue": "/api/v1/commands",
    "push_notifier": "/api/v1/push",
    "inventory": "/api/v1/inventory",
    "compliance": "/api/v1/compliance",
    "configuration": "/api/v1/configuration",
    "console": "/api/v1/console",
}
_TIMEOUT = aiohttp.ClientTimeout(total=60, connect=5)
_REFUSED = 400
_NOT_FOUND = 404
_AT_ONCE = 8
_SHORT = timedelta(minutes=2)


def actor() -> str:
    """Whom the audit names for what is done at this terminal."""
    return f"local:{getpass.getuser()}"


def local_signer(keys: Path) -> Signer:
    """The console's key: whoever can read it is the embedded installation's administrator."""
    try:
        kid, key = token_key(keys / "console")
    except FileNotFoundError:
        raise CliError(
            f"{keys / 'console'} holds no key: run `make up` once, or set MUSTER_TOKEN_<SERVICE> "
            "to an access token"
        ) from None
    return Signer("console", key, kid, SystemClock())


class Client:
    """`call("inventory", "GET", "/devices")`: MUSTER_API_URL and MUSTER_TOKEN_<SERVICE> name
    another installation, else the running `make up` is asked.
    """

    def __init__(self) -> None:
        self._base = os.environ.get("MUSTER_API_URL") or place.addresses().api
        self._tokens: dict[str, str] = {}

    def call(
        self,
        service: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """The JSON of a 2xx; raises Refused with the service's own words otherwise."""
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        url = self._url(service, path)
        return asyncio.run(_alone(method, url, self._token(service), body, given))

    def several(self, service: str, paths: Sequence[str]) -> list[Any]:
        """The answers to many GETs, in their order; None for what is not there."""
        urls = [self._url(service, path) for path in paths]
        return asyncio.run(_together(urls, self._token(service)))

    def pages(
        self, service: str, path: str, query: Mapping[str, Any] | None = None, *, most: int
    ) -> Iterator[dict[str, Any]]:
        """The items of a list, page after page, at most so many."""
        cursor: str | None = None
        while most > 0:
            asked = {**(query or {}), "limit": min(most, 500), "cursor": cursor}
            answer = self.call(service, "GET", path, query=asked)
            yield from answer["items"]
            most -= len(answer["items"])
            cursor = answer["next"]
            if cursor is None:
                return

    def _url(self, service: str, path: str) -> str:
        return self._base.rstrip("/") + PREFIXES[service] + path

    def _token(self, service: str) -> str:
        if given := os.environ.get(f"MUSTER_TOKEN_{service.upper()}"):
            return given
        if service not in self._tokens:
            signer = local_signer(place.home().keys)
            self._tokens[service] = signer.access(actor(), service, ["*"], _SHORT)
        return self._tokens[service]


async def _alone(
    method: str, url: str, token: str, body: Mapping[str, Any] | None, query: Mapping[str, str]
) -> Any:
    async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
        return await _send(session, method, url, token, body, query)


async def _together(urls: Sequence[str], token: str) -> list[Any]:
    connector = aiohttp.TCPConnector(limit=_AT_ONCE)
    async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
        return await asyncio.gather(*(_found(session, url, token) for url in urls))


async def _found(session: aiohttp.ClientSession, url: str, token: str) -> Any:
    try:
        return await _send(session, "GET", url, token)
    except Refused as refused:
        if refused.status != _NOT_FOUND:
            raise
        return None


async def _send(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    token: str,
    body: Mapping[str, Any] | None = None,
    query: Mapping[str, str] | None = None,
) -> Any:
    headers = {"Authorization": f"Bearer {token}"}
    data = None
    if body is not None:
        headers["Content-Type"] = "application/json"
        data = orjson.dumps(body, default=str)
    try:
        async with session.request(method, url, data=data, params=query, headers=headers) as answer:
            content = await answer.read()
            if answer.status >= _REFUSED:
                raise Refused(answer.status, _refusal(answer.status, content))
            return orjson.loads(content) if content else None
    except (aiohttp.ClientError, TimeoutError) as error:
        raise CliError(
            f"{url} does not answer ({type(error).__name__}): does `make up` still run?"
        ) from None


def _refusal(status: int, content: bytes) -> str:
    try:
        problem = orjson.loads(content)
        lines = [f"{problem['detail']} ({problem['code']}, {status})"]
        lines += [f"  {fault['at']}: {fault['why']}" for fault in problem.get("errors", [])]
        return "\n".join(lines)
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"the server answered {status}"
