"""A service under test: built as in production, on real listeners, without a broker.

async with trial(SERVICE, dsn, tmp_path) as service:
    answer = await service.call("GET", "/api/v1/inventory/devices")
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import orjson
from multidict import CIMultiDictProxy

from shared.bus import apply
from shared.bus.testing import travelled
from shared.db.testing import refuse_wide_plans
from shared.events import Event
from shared.runtime.clock import Clock, SystemClock
from shared.runtime.internal import Answered, InternalCallFailed, InternalClient
from shared.runtime.listening import Listening
from shared.runtime.running import Running, opened
from shared.runtime.service import Service
from shared.runtime.settings import ListenerName
from shared.runtime.tokens import Signer
from shared.sealed import ensure_service_keys, token_key

LISTENERS: tuple[ListenerName, ...] = ("devices", "api", "internal")


@dataclass(frozen=True)
class Answer:
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class RecordedCalls(InternalClient):
    """Stands for the other services: remembers what was asked and answers what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str, Mapping[str, Any] | None]] = []
        self.answers: dict[tuple[str, str], dict[str, Any]] = {}
        """By service and path; what is not listed is answered {}."""
        self.failing: set[str] = set()
        """Services that do not answer, or paths that nobody does."""
        self.tokens: list[str] = []
        """Of the people that were asked for."""
        self.statuses: dict[tuple[str, str], int] = {}
        """By service and path, of what people ask for; what is not listed succeeds (200)."""

    async def call(
        self, service: str, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        self.calls.append((service, method, path, body))
        if self.failing & {service, path}:
            raise InternalCallFailed(service, None, "no answer (as the test wants)")
        return self.answers.get((service, path), {})

    async def for_person(
        self,
        service: str,
        method: str,
        path: str,
        token: str,
        body: Mapping[str, Any] | None = None,
    ) -> Answered:
        """As `call`; `tokens` has what was shown."""
        self.tokens.append(token)
        answer = await self.call(service, method, path, body)
        status = self.statuses.get((service, path), 200)
        return Answered(status, answer)

    async def close(self) -> None:
        return


class Trial:
    """A service that serves for the length of a test."""

    def __init__(
        self, running: Running, listening: Listening, keys: Path, session: aiohttp.ClientSession
    ) -> None:
        self.running, self.context, self.parts = running, running.context, running.parts
        self._listening, self._keys, self._session = listening, keys, session

    def token(
        self,
        actor: str = "tester",
        permissions: Sequence[str] = ("*",),
        groups: Mapping[UUID, Sequence[str]] | None = None,
        via: str | None = None,
    ) -> str:
        """What the console would give to a person; `permissions` on all devices."""
        return self._signer("console").access(
            actor, self.running.name, permissions, timedelta(minutes=10), groups=groups, via=via
        )

    def _signer(self, service: str) -> Signer:
        ensure_service_keys(self._keys, service)
        kid, key = token_key(self._keys / service)
        return Signer(service, key, kid, self.context.clock)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        actor: str = "tester",
        permissions: Sequence[str] = ("*",),
        groups: Mapping[UUID, Sequence[str]] | None = None,
        via: str | None = None,
        as_service: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Ask an api route as a person, or an internal one as another service."""
        listener: ListenerName = "internal" if path.startswith("/internal/") else "api"
        token = self.token(actor, permissions, groups, via)
        if as_service is not None:
            token = self._signer(as_service).internal(self.running.name)
        given = {"Authorization": f"Bearer {token}", **(headers or {})}
        data = None
        if body is not None:
            data = orjson.dumps(body, default=str)
            given.setdefault("Content-Type", "application/json")
        return await self.send(listener, method, path, data, given)

    def url(self, listener: ListenerName) -> str:
        """Where a listener answers."""
        address = self._listening.address(listener)
        if address is None:
            raise ValueError(f"{self.running.name} has no route on the {listener} listener")
        return address

    async def send(
        self,
        listener: ListenerName,
        method: str,
        path: str,
        data: bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Any bytes to any listener; what a device would do."""
        url = self.url(listener) + path
        async with self._session.request(
            method, url, data=data, headers=headers, allow_redirects=False
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def hears(
        self,
        *events: Event,
        service: str,
        sequence: int | None = None,
        at: datetime | None = None,
    ) -> None:
        """Let the service handle events as if `service` had sent them; see `travelled`."""
        arrived = travelled(*events, service=service, sequence=sequence, at=at)
        await apply(self.context.road, self.running.name, self.parts.handlers, arrived)

    async def run_job(self, name: str) -> bool | None:
        """One run of a job, as its timer would do."""
        job = next(job for job in self.parts.jobs if job.name == name)
        return await job.run()


@asynccontextmanager
async def trial(
    service: Service[Any],
    dsn: str,
    folder: Path,
    *,
    clock: Clock | None = None,
    internal: InternalClient | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Trial]:
    """Build and serve; `folder` takes the keys, `internal` may be RecordedCalls.

    Neither jobs nor consumers run by themselves: see `run_job` and `hears`. At the end the plans
    of what the road did are looked at: raises AssertionError for one that grows with the fleet.
    """
    ensure_service_keys(folder, service.name)
    ensure_service_keys(folder, "console")
    settings = {
        "MUSTER_DATABASE_URL": dsn,
        "MUSTER_KEYS_DIR": str(folder),
        "MUSTER_SCHEMA_WAIT_SECONDS": "0",
        **{f"MUSTER_{name.upper()}_PORT": "0" for name in LISTENERS},
        **(environ or {}),
    }
    async with (
        opened(service, settings, clock=clock or SystemClock(), internal=internal) as running,
        aiohttp.ClientSession() as session,
    ):
        listening = Listening(running.context.settings)
        try:
            for name in LISTENERS:
                await listening.open(name, [running])
            yield Trial(running, listening, folder, session)
            await refuse_wide_plans(running.context.road)
        finally:
            for name in LISTENERS:
                await listening.close(name)
