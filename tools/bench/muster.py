"""Muster as a server under test: every service as processes of its own, on real servers."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from uuid import uuid4

import asyncpg

from tools.bench.apart import PARTS
from tools.bench.bodies import TOPIC
from tools.bench.driver import Target, http_request
from tools.bench.fleet import Device
from tools.bench.import_rows import REGISTER, rows_of
from tools.bench.meter import Admin, Ledger, calm
from tools.bench.system import Calls, Door, Work
from tools.embedded.cluster import APART, Cluster, Part
from tools.embedded.databases import DATABASE
from tools.embedded.home import Home

CHECK_IN: Final = "/mdm/apple/checkin"
CONNECT: Final = "/mdm/apple/connect"
COMMANDS: Final = "/api/v1/commands"
_SPLIT: Final[Mapping[str, Sequence[Sequence[str]]]] = {
    "command_queue": [("http",), ("consumer",), ("jobs",), ("relay",)],
    "enrollment": [("http",), ("consumer", "worker")],
}
_HOST: Final = "127.0.0.1"
_PAUSE = 0.02
_PATIENCE = 120.0
_AT_ONCE = 16

KNOWN = """
SELECT count(*) FROM channel JOIN enrollment USING (enrollment_id)
WHERE channel.open AND enrollment.state = 'enrolled'
"""
DEVICE_IDS = "SELECT udid, device_id FROM device WHERE udid IS NOT NULL"
UNEXPANDED = "SELECT EXISTS (SELECT FROM target)"
WAITING = "SELECT count(*) FROM pending"
OPEN = "SELECT DISTINCT command_id FROM pending"


class BenchCluster(Cluster):
    """Also starts jobs and relay of a service as processes of their own."""

    def command(self, part: Part) -> list[str]:
        if part.roles[0] in PARTS:
            return [sys.executable, "-m", "tools.bench.apart", part.service, *part.roles]
        return super().command(part)


class Muster:
    """`async with Muster(root, cache) as muster`: fresh databases, ready to be asked."""

    def __init__(
        self,
        root: Path,
        cache: Path,
        *,
        inventory: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.name = "muster"
        self.topic = TOPIC
        layout: dict[str, Sequence[Sequence[str]]] = {
            service: _SPLIT.get(service, roles)
            for service, roles in APART.items()
            if inventory or service != "inventory"
        }
        self._inventory = inventory
        self.cluster = BenchCluster(Home.at(root, cache=cache), layout, settings or {})
        self._stack = AsyncExitStack()
        self._admin: Admin | None = None
        self._queue: Admin | None = None
        self._device_ids: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        try:
            await self._stack.enter_async_context(self.cluster)
            self._admin = await self._connected(self.cluster.running.postgres_admin, DATABASE)
            queue = self.cluster.running.services["command_queue"]
            self._queue = await self._connected(queue.database_url)
        except BaseException:
            await self._stack.aclose()
            raise
        self.check_in = self._door("enrollment", CHECK_IN)
        self.connect = self._door("command_queue", CONNECT)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _connected(self, dsn: str, database: str | None = None) -> Admin:
        connection = await asyncpg.connect(dsn, database=database)
        self._stack.push_async_callback(connection.close)
        return connection

    def _door(self, service: str, path: str) -> Door:
        return Door(Target(_HOST, self.cluster.serving(service).ports["devices"]), path)

    @property
    def admin(self) -> Admin:
        if self._admin is None:
            raise RuntimeError("Muster does not run")
        return self._admin

    @property
    def queue(self) -> Admin:
        """A connection as command_queue."""
        if self._queue is None:
            raise RuntimeError("Muster does not run")
        return self._queue

    def everything(self) -> dict[str, int]:
        found = {name: part.pid for name, part in self.cluster.parts.items()}
        return found | self.cluster.embedded.pids()

    def ledger(self, work: Work) -> Ledger:
        """Expansion is counted to enqueue; relay and consumers are apart."""
        working = {
            "enroll": ("enrollment-http",),
            "enqueue": ("command_queue-http", "command_queue-jobs"),
        }.get(work, ("command_queue-http",))
        pids = self.everything()
        postgres = pids.pop("postgres")
        counted = {name: pid for name, pid in pids.items() if name in working}
        return Ledger(
            counted, {name: pid for name, pid in pids.items() if name not in working}, postgres
        )

    async def learn(self, devices: Sequence[Device]) -> None:
        dsn = self.cluster.running.services["enrollment"].database_url
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute(REGISTER, *rows_of(devices))
        finally:
            await connection.close()

    async def know(self, devices: Sequence[Device]) -> None:
        await self._until(KNOWN, at_least=len(devices))
        rows = await self.cluster.query("enrollment", DEVICE_IDS)
        self._device_ids = {row["udid"]: str(row["device_id"]) for row in rows}
        if self._inventory:
            await calm(self.everything())
            await self.forget()

    def calls(self, groups: Sequence[Sequence[Device]]) -> Calls:
        port = self.cluster.serving("command_queue").ports["api"]
        headers = {
            "Authorization": f"Bearer {self.cluster.token('command_queue')}",
            "Content-Type": "application/json",
        }
        requests = [
            http_request("POST", COMMANDS, f"{_HOST}:{port}", self._command(group), headers)
            for group in groups
        ]
        return Calls(Target(_HOST, port), requests)

    def _command(self, group: Sequence[Device]) -> bytes:
        body: dict[str, Any] = {
            "kind": "inventory.refresh",
            "params": {"section": "security"},
            "device_ids": [self._device_ids[device.udid] for device in group],
            "idempotency_key": str(uuid4()),
            "reason": "bench",
        }
        return json.dumps(body).encode()

    def command_uuids(self, calls: Calls, answers: Mapping[int, bytes]) -> list[str]:
        return [
            str(json.loads(answers[place])["command_id"]) for place in range(len(calls.requests))
        ]

    async def until_queued(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while await self.queue.fetchval(UNEXPANDED):
            if time.monotonic() > deadline:
                raise TimeoutError("commands are not expanded")
            await asyncio.sleep(_PAUSE)

    async def left(self) -> int:
        return int(await self.queue.fetchval(WAITING))

    async def forget(self) -> None:
        """Cancel everything, as a person would."""
        turns = asyncio.Semaphore(_AT_ONCE)
        async with self.cluster.session() as session:

            async def cancel(command: Any) -> None:
                path = f"{COMMANDS}/{command}/cancel"
                async with turns:
                    await self.cluster.call(
                        session, "command_queue", "POST", path, json={"reason": "bench"}
                    )

            rows = await self.queue.fetch(OPEN)
            await asyncio.gather(*(cancel(row["command_id"]) for row in rows))
        deadline = time.monotonic() + _PATIENCE
        while await self.left():
            if time.monotonic() > deadline:
                raise TimeoutError("cancelled commands do not leave the queues")
            await asyncio.sleep(10 * _PAUSE)

    async def _until(self, statement: str, *, at_least: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while (found := await self.queue.fetchval(statement)) < at_least:
            if time.monotonic() > deadline:
                raise TimeoutError(f"command_queue knows {found} devices instead of {at_least}")
            await asyncio.sleep(10 * _PAUSE)
