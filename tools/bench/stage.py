"""Where a bench runs: device-facing processes apart, all else beside them, APIs to prepare it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import aiohttp

from tools.bench.signing import CHECK_IN, CONNECT
from tools.embedded.cluster import APART, Cluster

HTTP = ("http",)
REST = ("consumer", "worker")
# Without inventory: nobody asks a newly enrolled device for anything, so its queue is empty.
LAYOUT = {
    service: [HTTP, REST] if service in ("enrollment", "command_queue") else roles
    for service, roles in APART.items()
    if service != "inventory"
}
_PAUSE = 0.05


class BenchStage:
    """The cluster as scenarios see it."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self._cluster = cluster
        self._session = session
        self._commands: list[tuple[str, int]] = []
        self.host = "127.0.0.1"
        self.ports = {
            CHECK_IN: cluster.serving("enrollment").ports["devices"],
            CONNECT: cluster.serving("command_queue").ports["devices"],
        }
        self.roots = {name: part.pid for name, part in cluster.parts.items()}
        self.roots |= cluster.embedded.pids()

    async def enroll_url(self, uses: int) -> str:
        body = {"name": "bench", "max_uses": uses, "ownership": "corporate"}
        made = await self._call("enrollment", "POST", "/api/v1/enrollment/credentials", json=body)
        return str(made["enroll_url"])

    async def device_ids(self, count: int) -> list[str]:
        """All devices, once command_queue knows `count` of them."""
        found: list[str] = []
        async with asyncio.timeout(120):
            while len(found) < count:
                await asyncio.sleep(_PAUSE)
                found = await self._devices()
        return found

    async def _devices(self) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            query = {"limit": "500", "state": "enrolled"} | ({"cursor": cursor} if cursor else {})
            page = await self._call("enrollment", "GET", "/api/v1/enrollment/devices", params=query)
            found += [str(item["device_id"]) for item in page["items"]]
            cursor = page["next"]
            if cursor is None:
                return found

    async def empty_queues(self) -> None:
        """Cancel what this bench asked for, and see it gone."""
        while self._commands:
            path = f"/api/v1/commands/{self._commands.pop()[0]}/cancel"
            await self._call("command_queue", "POST", path, json={"reason": "bench"})
        await self._until("SELECT count(*) FROM pending", 0)

    async def send_commands(self, device_ids: Sequence[str], key: str) -> str:
        body = {
            "kind": "inventory.refresh",
            "params": {"section": "security"},
            "device_ids": list(device_ids),
            "idempotency_key": f"{key}-{uuid4()}",
            "reason": "bench",
        }
        made = await self._call("command_queue", "POST", "/api/v1/commands", json=body)
        self._commands.append((str(made["command_id"]), len(device_ids)))
        return str(made["command_id"])

    async def until_expanded(self) -> None:
        """Until every command asked for stands in every queue."""
        wanted = sum(targets for _, targets in self._commands)
        await self._until("SELECT count(*) FROM pending", wanted)

    async def _until(self, statement: str, count: int) -> None:
        async with asyncio.timeout(120):
            found = None
            while found != count:
                await asyncio.sleep(_PAUSE)
                found = (await self._cluster.query("command_queue", statement))[0][0]

    async def _call(self, service: str, method: str, path: str, **more: Any) -> Any:
        return await self._cluster.call(self._session, service, method, path, **more)
