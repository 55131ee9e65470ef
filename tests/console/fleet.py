"""Devices as the read model hears of them, in the words of the other services' events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from services.console.app import SERVICE
from shared.events import uuid7
from shared.events.commands import DeviceSeen
from shared.events.compliance import Finding, VerdictChanged, VerdictState
from shared.events.device_state import DeviceState, EnrollmentState
from shared.events.devices import Ownership, Platform
from shared.events.groups import DeviceGroups, GroupState
from shared.events.inventory import FactChange, FactsChanged
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Answer, RecordedCalls, Trial, trial

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
BASE = "/api/v1/console"


def state(device_id: UUID, **changes: Any) -> DeviceState:
    """An enrolled iPhone, unless told otherwise; status, udid and times are its enrollment's."""
    enrollment_id = uuid7()
    enrollment = EnrollmentState(
        enrollment_id=enrollment_id,
        generation=1,
        state=changes.pop("status", "enrolled"),
        supervised=changes.pop("supervised", None),
        udid=changes.pop("udid", None),
        pins=[],
        channels=[],
        authenticated_at=START,
        enrolled_at=changes.pop("enrolled_at", START),
    )
    values: dict[str, Any] = {
        "platform": Platform.IOS,
        "ownership": Ownership.CORPORATE,
        "enrollments": [enrollment],
        "current_enrollment": enrollment_id,
    }
    return DeviceState(device_id=device_id, **values | changes)


class Console:
    """The console under test, and words to speak to it."""

    def __init__(self, service: Trial, clock: FixedClock) -> None:
        self.service, self.clock = service, clock

    async def device(self, device_id: UUID | None = None, **changes: Any) -> UUID:
        """Introduce a device, or say that it changed."""
        device_id = device_id or uuid7()
        await self.service.hears(state(device_id, **changes), service="enrollment")
        return device_id

    async def seen(self, device_id: UUID, ago: timedelta = timedelta()) -> None:
        at = self.clock.now() - ago
        await self.service.hears(
            DeviceSeen(device_id=device_id, seen_at=at), service="command_queue"
        )

    async def facts(self, device_id: UUID, **facts: Any) -> None:
        """Facts changed; `__` in a name stands for the dot."""
        changes = [FactChange(name=n.replace("__", "."), value=v) for n, v in facts.items()]
        event = FactsChanged(device_id=device_id, observed_at=self.clock.now(), changes=changes)
        await self.service.hears(event, service="inventory")

    async def verdict(
        self,
        device_id: UUID,
        policy_id: UUID,
        verdict: VerdictState,
        *,
        previous: VerdictState | None = None,
        sequence: int | None = None,
    ) -> None:
        event = VerdictChanged(
            device_id=device_id,
            policy_id=policy_id,
            policy_version=1,
            policy_name="Baseline",
            state=verdict,
            previous=previous,
            findings=[Finding(rule="passcode", state=verdict, reason="value")],
            evaluated_at=self.clock.now(),
        )
        await self.service.hears(event, service="compliance", sequence=sequence)

    async def group(self, name: str, *members: UUID, **changes: Any) -> UUID:
        group_id: UUID = changes.pop("group_id", None) or uuid7()
        group = GroupState(group_id=group_id, name=name, **changes)
        await self.service.hears(group, service="inventory")
        for member in members:
            await self.join(member, group_id)
        return group_id

    async def join(self, device_id: UUID, *groups: UUID, sequence: int | None = None) -> None:
        event = DeviceGroups(device_id=device_id, groups=list(groups))
        await self.service.hears(event, service="inventory", sequence=sequence)

    async def get(self, path: str, **query: Any) -> Answer:
        return await self.service.call("GET", f"{BASE}{path}?{urlencode(query, doseq=True)}")

    async def scoped(
        self, method: str, path: str, group_id: UUID, permissions: Sequence[str]
    ) -> Answer:
        """Ask as somebody who has a group only."""
        token = self.service.context.tokens.signer.access(
            "scoped", "console", [], timedelta(minutes=5), groups={group_id: permissions}
        )
        headers = {"Authorization": f"Bearer {token}"}
        return await self.service.call(method, BASE + path, headers=headers)

    async def names(self, **query: Any) -> list[str | None]:
        answer = await self.get("/devices", **query)
        assert answer.status == 200, answer.text
        return [row["name"] for row in answer.json["items"]]

    async def walk(self, limit: int, **query: Any) -> tuple[list[Any], list[Any]]:
        """All rows, page by page to the end, and again page by page back to the beginning."""
        there: list[Any] = []
        page = (await self.get("/devices", limit=limit, **query)).json
        assert page["previous"] is None
        pages = [page["items"]]
        while page["next"]:
            page = (await self.get("/devices", limit=limit, cursor=page["next"], **query)).json
            pages.append(page["items"])
        there = [row for one in pages for row in one]
        back = list(page["items"])
        while page["previous"]:
            cursor = page["previous"]
            page = (
                await self.get("/devices", limit=limit, cursor=cursor, back="true", **query)
            ).json
            back = page["items"] + back
        return there, back

    async def overview(self) -> Any:
        answer = await self.get("/overview")
        assert answer.status == 200, answer.text
        return answer.json


@asynccontextmanager
async def console(
    dsn: str,
    folder: Path,
    *,
    internal: RecordedCalls | None = None,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Console]:
    clock = FixedClock(START)
    async with trial(
        SERVICE, dsn, folder, clock=clock, internal=internal, environ=environ
    ) as service:
        yield Console(service, clock)
