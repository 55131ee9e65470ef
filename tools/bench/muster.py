"""Muster as a server under test: every service as processes of its own, on real servers."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import asyncpg

from shared.events.registry import SERVICES
from tools.bench.apart import PARTS
from tools.bench.bodies import TOPIC, push_magic, push_token
from tools.bench.driver import Target, http_request
from tools.bench.fleet import Device
from tools.bench.meter import Admin, Ledger
from tools.bench.system import Calls, Door, Work
from tools.embedded.cluster import Cluster, Part
from tools.embedded.databases import DATABASE
from tools.embedded.home import Home
from tools.embedded.opened import Opened

CHECK_IN: Final = "/mdm/apple/checkin"
CONNECT: Final = "/mdm/apple/connect"
COMMANDS: Final = "/api/v1/commands"
IMPORTS: Final = "/api/v1/enrollment/imports"
CERTIFICATES: Final = "/api/v1/push/certificates"
_ROWS = 500
_ENOUGH = 500
"""Rows whose average size says something."""
_SPLIT: Final[Mapping[str, Sequence[Sequence[str]]]] = {
    # `https` is `http` with TLS ended by the service itself, on an address of its own.
    "command_queue": [("http",), ("https",), ("consumer",), ("jobs",), ("relay",)],
}
_ROLES: Final[Sequence[Sequence[str]]] = [("http",), ("consumer", "worker")]
"""Of every other service."""
_HOST: Final = "127.0.0.1"
_PAUSE = 0.02
_PATIENCE = 120.0

KNOWN = """
SELECT count(*) FROM channel JOIN enrollment USING (enrollment_id)
WHERE channel.open AND enrollment.state = 'enrolled' AND enrollment.udid = ANY($1::text[])
"""
DEVICE_IDS = "SELECT udid, device_id FROM device WHERE udid = ANY($1::text[])"
UNEXPANDED = "SELECT EXISTS (SELECT FROM target)"
FORGET = "DELETE FROM pending WHERE command_id = ANY($1::uuid[])"
OUTCOME_SIZE = """
SELECT (SELECT count(*) FROM outcome) AS rows,
       sum(pg_total_relation_size(inhrelid))::bigint AS bytes
FROM pg_inherits WHERE inhparent = 'outcome'::regclass
"""
WAITING = "SELECT count(*) FROM pending WHERE command_id = ANY($1::uuid[])"


class BenchCluster(Cluster):
    """Also starts jobs and relay of a service as processes of their own, and TLS in a service."""

    processes = 1
    """Of each part that has the role `http` alone, on one address."""

    def command(self, part: Part) -> list[str]:
        role = part.roles[0]
        if role in PARTS:
            return [sys.executable, "-m", "tools.bench.apart", part.service, role]
        if role == "https":
            return super().command(replace(part, roles=("http",)))
        several = tuple(part.roles) == ("http",) and self.processes > 1
        return super().command(part) + (["--processes", str(self.processes)] if several else [])

    def environment(self, part: Part) -> dict[str, str]:
        environ = super().environment(part)
        if part.roles[0] == "https":
            environ |= {
                "MUSTER_DEVICES_TLS_CERT": str(self.tls.cert),
                "MUSTER_DEVICES_TLS_KEY": str(self.tls.key),
            }
        return environ


class Muster(Opened):
    """`async with Muster(root, cache) as muster`: fresh databases, ready to be asked."""

    admin: Admin
    queue: Admin
    """A connection as command_queue."""

    def __init__(
        self,
        root: Path,
        cache: Path,
        *,
        inventory: bool = False,
        processes: int = 1,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.name = "muster"
        self.topic = TOPIC
        layout: dict[str, Sequence[Sequence[str]]] = {
            service: _SPLIT.get(service, _ROLES)
            for service in SERVICES
            if inventory or service != "inventory"
        }
        self.cluster = BenchCluster(Home.at(root, cache=cache), layout, settings or {})
        self.cluster.processes = processes
        self._stack = AsyncExitStack()
        self.device_ids: dict[str, str] = {}
        self._commands: list[str] = []

    async def _start(self) -> None:
        await self._stack.enter_async_context(self.cluster)
        self.admin = await self._connected(self.cluster.running.postgres_admin, DATABASE)
        queue = self.cluster.running.services["command_queue"]
        self.queue = await self._connected(queue.database_url)
        self.check_in = self._door("enrollment", CHECK_IN)
        self.connect = self._door("command_queue", CONNECT)
        https = self.cluster.parts["command_queue-https"].ports["devices"]
        self.tls = Target(_HOST, https, self.cluster.tls.authority)

    async def serve_pushes(self) -> None:
        """From now on devices name the topic that Muster holds a certificate for."""
        async with self.cluster.session() as session, asyncio.timeout(_PATIENCE):
            while True:
                found = await self.cluster.call(session, "push_notifier", "GET", CERTIFICATES)
                if found["items"]:
                    self.topic = str(found["items"][0]["topic"])
                    return
                await asyncio.sleep(10 * _PAUSE)

    async def _connected(self, dsn: str, database: str | None = None) -> Admin:
        connection = await asyncpg.connect(dsn, database=database)
        self._stack.push_async_callback(connection.close)
        return connection

    def _door(self, service: str, path: str) -> Door:
        return Door(Target(_HOST, self.cluster.serving(service).ports["devices"]), path)

    def everything(self) -> dict[str, int]:
        found = {name: part.pid for name, part in self.cluster.parts.items()}
        return found | self.cluster.embedded.pids()

    def ledger(self, work: Work) -> Ledger:
        """Expansion is counted to enqueue; relay and consumers are apart."""
        working = {
            "enroll": ("enrollment-http",),
            "enqueue": ("command_queue-http", "command_queue-jobs"),
            "tls": ("command_queue-https",),
        }.get(work, ("command_queue-http",))
        pids = self.everything()
        postgres = pids.pop("postgres")
        counted = {name: pid for name, pid in pids.items() if name in working}
        return Ledger(
            counted, {name: pid for name, pid in pids.items() if name not in working}, postgres
        )

    async def learn(self, devices: Sequence[Device]) -> None:
        """Import the certificates: each device then enrolls by its first Authenticate."""
        await self._import([_registered(device) for device in devices], "registered")

    async def adopt(self, devices: Sequence[Device]) -> None:
        """Import devices as enrolled ones, which nobody asks for their inventory now."""
        await self._import([_enrolled(device, self.topic) for device in devices], "enrolled")
        await self.know(devices)

    async def _import(self, rows: Sequence[Mapping[str, str]], outcome: str) -> None:
        async with self.cluster.session() as session:
            for at in range(0, len(rows), _ROWS):
                order = {"rows": rows[at : at + _ROWS], "refresh": False}
                report = await self.cluster.call(session, "enrollment", "POST", IMPORTS, json=order)
                if report["counts"].get(outcome) != len(rows[at : at + _ROWS]):
                    raise RuntimeError(f"devices were not imported: {report['counts']}")

    async def know(self, devices: Sequence[Device]) -> None:
        udids = [device.udid for device in devices]
        await self._until(KNOWN, udids, at_least=len(devices))
        rows = await self.cluster.query("enrollment", DEVICE_IDS, udids)
        self.device_ids |= {row["udid"]: str(row["device_id"]) for row in rows}

    def calls(self, groups: Sequence[Sequence[Device]]) -> Calls:
        port = self.cluster.serving("command_queue").ports["api"]
        headers = {
            "Authorization": f"Bearer {self.cluster.token('command_queue')}",
            "Content-Type": "application/json",
        }
        requests = [
            http_request(
                "POST",
                COMMANDS,
                f"{_HOST}:{port}",
                json.dumps(self.command(group)).encode(),
                headers,
            )
            for group in groups
        ]
        return Calls(Target(_HOST, port), requests)

    def command(self, group: Sequence[Device]) -> dict[str, Any]:
        """What the API is asked for: SecurityInfo."""
        return {
            "kind": "inventory.refresh",
            "params": {"section": "security"},
            "device_ids": [self.device_ids[device.udid] for device in group],
            "idempotency_key": str(uuid4()),
            "reason": "bench",
        }

    def command_uuids(self, calls: Calls, answers: Mapping[int, bytes]) -> list[str]:
        found = [
            str(json.loads(answers[place])["command_id"]) for place in range(len(calls.requests))
        ]
        self._commands += found
        return found

    async def until_queued(self) -> None:
        deadline = time.monotonic() + _PATIENCE
        while await self.queue.fetchval(UNEXPANDED):
            if time.monotonic() > deadline:
                raise TimeoutError("commands are not expanded")
            await asyncio.sleep(_PAUSE)

    async def left(self) -> int:
        return int(await self.queue.fetchval(WAITING, self._commands))

    async def forget(self) -> None:
        """Empty the queues; the sweeper finds the commands over, as if all had been answered."""
        await self.queue.execute(FORGET, self._commands)
        self._commands.clear()

    async def outcome_bytes(self) -> int | None:
        """What an outcome takes on disk, indexes included; None when there are too few to tell."""
        row = await self.queue.fetchrow(OUTCOME_SIZE)
        if row is None or row["rows"] < _ENOUGH:
            return None
        return int(row["bytes"]) // int(row["rows"])

    async def _until(self, statement: str, udids: Sequence[str], *, at_least: int) -> None:
        deadline = time.monotonic() + _PATIENCE
        while (found := await self.queue.fetchval(statement, udids)) < at_least:
            if time.monotonic() > deadline:
                raise TimeoutError(f"command_queue knows {found} devices instead of {at_least}")
            await asyncio.sleep(10 * _PAUSE)


def _registered(device: Device) -> dict[str, str]:
    certificate = base64.b64encode(device.certificate).decode()
    return {"certificate": certificate, "udid": device.udid, "ownership": "corporate"}


def _enrolled(device: Device, topic: str) -> dict[str, str]:
    return _registered(device) | {
        "serial": device.serial,
        "product": "iPhone17,1",
        "os_version": "18.5",
        "topic": topic,
        "push_token": push_token(device).hex(),
        "push_magic": push_magic(device),
    }
