"""What a person does through the API, as end-to-end tests need it."""

from __future__ import annotations

import base64
import plistlib
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import aiohttp

from tests.chaos.rig import FINAL, listed, patiently
from tools.embedded.cluster import Cluster
from tools.simulator.conversation import Conversation
from tools.simulator.device import SimulatedDevice


@dataclass
class Person:
    """An owner of the installation."""

    cluster: Cluster
    session: aiohttp.ClientSession

    async def ask(self, service: str, method: str, path: str, **more: Any) -> Any:
        return await self.cluster.call(self.session, service, method, path, **more)

    async def enroll_url(self, **body: Any) -> str:
        wanted = {"name": "e2e", "serials": "any", "ownership": "corporate"} | body
        made = await self.ask("enrollment", "POST", "/api/v1/enrollment/credentials", json=wanted)
        return str(made["enroll_url"])

    async def devices(self, **query: str) -> list[dict[str, Any]]:
        path = "/api/v1/enrollment/devices"
        return await listed(self.cluster, self.session, "enrollment", path, **query)

    async def device_id(self, device: SimulatedDevice) -> str:
        """The id of this hardware's first device."""
        found = await self.devices(q=device.traits.serial)
        assert found, f"{device.traits.serial} is not listed"
        return str(min(row["device_id"] for row in found))

    async def settle(self, device: SimulatedDevice) -> str:
        """Let the first inventory pass: afterwards the device's queue is empty, and no push is due.

        A channel that still waited would be pushed for that, not for what is asked next.
        """
        device_id = await self.device_id(device)

        async def five() -> bool:
            await Conversation(device).run()
            reports = [r for r in device.receipts if r.statuses[-1:] == ["Acknowledged"]]
            return len(reports) >= 5 and not await self.push_waits(device_id)

        await patiently(five, seconds=60)
        return device_id

    async def push_waits(self, device_id: str) -> bool:
        """Whether push_notifier holds that a channel of the device has work."""
        path = f"/api/v1/push/devices/{device_id}"
        known = await self.ask("push_notifier", "GET", path)
        return any(channel["waiting_since"] for channel in known["channels"])

    async def command(self, device_id: str, kind: str = "inventory.refresh", **body: Any) -> str:
        """Ask for one command and wait until it is pending; its id, as devices see it."""
        params = body.pop("params", {"section": "security"} if "refresh" in kind else {})
        wanted = {
            "kind": kind,
            "params": params,
            "device_ids": [device_id],
            "idempotency_key": str(uuid4()),
            "reason": "e2e",
        } | body
        made = await self.ask("command_queue", "POST", "/api/v1/commands", json=wanted)
        command_id = str(made["command_id"])

        async def pending() -> bool:
            return bool(await self.targets(command_id))

        await patiently(pending, seconds=30)
        return command_id

    async def raw(self, device_id: str, request: dict[str, Any], **body: Any) -> str:
        payload = base64.b64encode(plistlib.dumps({"Command": request})).decode()
        params = {"platform": "apple", "payload": payload}
        return await self.command(device_id, "raw", params=params, **body)

    async def targets(self, command_id: str) -> list[dict[str, Any]]:
        path = f"/api/v1/commands/{command_id}/targets"
        return await listed(self.cluster, self.session, "command_queue", path)

    async def state(self, command_id: str) -> str:
        (target,) = await self.targets(command_id)
        return str(target["state"])

    async def outcome(self, command_id: str) -> dict[str, Any]:
        async def final() -> dict[str, Any] | None:
            (target,) = await self.targets(command_id)
            return target if target["state"] in FINAL else None

        return dict(await patiently(final, seconds=30))

    async def cancel(self, command_id: str) -> None:
        path = f"/api/v1/commands/{command_id}/cancel"
        await self.ask("command_queue", "POST", path, json={"reason": "e2e"})
