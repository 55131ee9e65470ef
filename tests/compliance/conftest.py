"""Compliance under test, with a clock that stands still and words to speak to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.compliance.app import SERVICE
from shared.events import uuid7
from shared.events.commands import DeviceSeen
from shared.events.device_state import DeviceState, EnrollmentState
from shared.events.devices import Ownership, Platform
from shared.events.inventory import (
    Application,
    ApplicationsChanged,
    FactChange,
    FactsChanged,
    SectionReported,
)
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Answer, Trial, trial
from tests.told import Told
from tools.embedded.testing import MakeDatabase

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
BASE = "/api/v1/compliance"
PASSCODE = {"kind": "passcode_present", "id": "passcode"}


class ComplianceTrial:
    def __init__(self, service: Trial, clock: FixedClock) -> None:
        self.service, self.clock = service, clock
        self.enrollments: dict[UUID, UUID] = {}

    async def told(self) -> Told:
        """Take what waits in the outbox."""
        return await Told.by(self.service)

    def state(self, device_id: UUID, **changes: Any) -> DeviceState:
        """A managed iPhone, unless told otherwise; `state` and `since` are its enrollment's."""
        enrollment_id = self.enrollments.setdefault(device_id, uuid7())
        enrollment = EnrollmentState(
            enrollment_id=enrollment_id,
            generation=1,
            state=changes.pop("state", "enrolled"),
            pins=[],
            channels=[],
            authenticated_at=changes.pop("since", START),
        )
        values: dict[str, Any] = {
            "platform": Platform.IOS,
            "ownership": Ownership.CORPORATE,
            "serial": "C39X",
            "enrollments": [enrollment],
            "current_enrollment": enrollment_id,
        }
        return DeviceState(device_id=device_id, **values | changes)

    async def device(self, **changes: Any) -> UUID:
        """Introduce a device."""
        device_id = uuid7()
        await self.service.hears(self.state(device_id, **changes), service="enrollment")
        return device_id

    async def facts(self, device_id: UUID, **facts: Any) -> None:
        """Facts changed; `__` in a name stands for the dot."""
        changes = [
            FactChange(name=name.replace("__", "."), value=value) for name, value in facts.items()
        ]
        event = FactsChanged(device_id=device_id, observed_at=self.clock.now(), changes=changes)
        await self.service.hears(event, service="inventory")

    async def applications(
        self, device_id: UUID, installed: Sequence[str] = (), removed: Sequence[str] = ()
    ) -> None:
        event = ApplicationsChanged(
            device_id=device_id,
            observed_at=self.clock.now(),
            installed=[Application(identifier=name) for name in installed],
            removed=[Application(identifier=name) for name in removed],
        )
        await self.service.hears(event, service="inventory")

    async def section(self, device_id: UUID, section: Any, *answered: str) -> None:
        event = SectionReported(
            device_id=device_id,
            observed_at=self.clock.now(),
            section=section,
            answered=list(answered),
        )
        await self.service.hears(event, service="inventory")

    async def seen(self, device_id: UUID) -> None:
        event = DeviceSeen(device_id=device_id, channel_id=device_id, seen_at=self.clock.now())
        await self.service.hears(event, service="command_queue")

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        return await self.service.call(method, BASE + path, body, **more)

    async def policy(self, *rules: dict[str, Any], **more: Any) -> UUID:
        """Create a policy and take it through the fleet."""
        body = {"name": more.pop("name", f"P{uuid7().hex}"), "rules": list(rules), **more}
        answer = await self.call("POST", "/policies", body)
        assert answer.status == 201, answer.text
        await self.roll_out()
        return UUID(answer.json["policy_id"])

    async def roll_out(self) -> None:
        while await self.service.run_job("rollouts"):
            pass

    async def time_passes(self, **by: float) -> None:
        """Move the clock and let the deadlines be met."""
        self.clock.advance(timedelta(**by))
        while await self.service.run_job("deadlines"):
            pass

    async def verdicts(self, device_id: UUID) -> Any:
        answer = await self.call("GET", f"/devices/{device_id}/verdicts")
        assert answer.status == 200, answer.text
        return answer.json

    async def states(self, device_id: UUID) -> list[str]:
        """The device's own state, then those of its verdicts."""
        found = await self.verdicts(device_id)
        return [found["state"], *(verdict["state"] for verdict in found["items"])]

    async def counts(self, policy_id: UUID | None = None) -> dict[str, int]:
        """States with their devices, without those of nobody."""
        found = (await self.call("GET", "/summary")).json
        counts = found["devices"]
        if policy_id is not None:
            (counts,) = (p["counts"] for p in found["policies"] if p["policy_id"] == str(policy_id))
        return {state: count for state, count in counts.items() if count}


@pytest.fixture
async def compliance(
    make_database: MakeDatabase, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[ComplianceTrial]:
    """Without the baseline, unless a test is marked to want it by its parameter."""
    clock = FixedClock(START)
    environ = {
        "MUSTER_COMPLIANCE_SEED_BASELINE": str(getattr(request, "param", False)),
        "MUSTER_COMPLIANCE_ROLLOUT_BATCH": "2",
        "MUSTER_COMPLIANCE_DUE_BATCH": "2",
    }
    dsn = await make_database("compliance")
    async with trial(SERVICE, dsn, tmp_path, clock=clock, environ=environ) as service:
        yield ComplianceTrial(service, clock)
