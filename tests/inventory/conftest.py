"""Inventory under test, with a clock that stands still and words to speak to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.inventory.app import SERVICE
from shared.events import uuid7
from shared.events.commands import CommandFinished, TargetState
from shared.events.device_state import DeviceState, EnrollmentState
from shared.events.devices import Ownership, Platform
from shared.runtime.clock import FixedClock
from shared.runtime.testing import Trial, trial
from tests.told import Told
from tools.embedded.testing import MakeDatabase

START = datetime(2026, 6, 1, 12, tzinfo=UTC)
KEYS = {
    "device_information": "QueryResponses",
    "security": "SecurityInfo",
    "applications": "InstalledApplicationList",
    "profiles": "ProfileList",
    "certificates": "CertificateList",
}


class InventoryTrial:
    def __init__(self, service: Trial, clock: FixedClock) -> None:
        self.service, self.clock = service, clock
        self.enrollments: dict[UUID, UUID] = {}

    async def told(self) -> Told:
        """Take what waits in the outbox."""
        return await Told.by(self.service)

    def state(self, device_id: UUID, **changes: Any) -> DeviceState:
        """A managed iPhone, unless told otherwise; `state` is its enrollment's."""
        enrollment_id = self.enrollments.setdefault(device_id, uuid7())
        enrollment = EnrollmentState(
            enrollment_id=enrollment_id,
            generation=1,
            state=changes.pop("state", "enrolled"),
            pins=[],
            channels=[],
            authenticated_at=START,
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

    def finished(self, device_id: UUID, section: str, answer: Any, **changes: Any) -> Any:
        values: dict[str, Any] = {
            "command_id": uuid7(),
            "channel_id": device_id,
            "enrollment_id": self.enrollments.get(device_id),
            "generation": 1,
            "kind": "inventory.refresh",
            "section": section,
            "state": TargetState.ACKNOWLEDGED,
            "answer": {KEYS[section]: answer} if answer is not None else None,
            "queued_at": START,
            "finished_at": self.clock.now(),
        }
        return CommandFinished(device_id=device_id, **values | changes)

    async def reports(self, device_id: UUID, section: str, answer: Any, **changes: Any) -> Told:
        """The device answers; returns what the others hear of it."""
        event = self.finished(device_id, section, answer, **changes)
        await self.service.hears(event, service="command_queue")
        return await self.told()

    def later(self, **by: float) -> datetime:
        """Move the clock; returns the new time."""
        self.clock.advance(timedelta(**by))
        return self.clock.now()


@pytest.fixture
async def inventory(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[InventoryTrial]:
    clock = FixedClock(START)
    dsn = await make_database("inventory")
    async with trial(SERVICE, dsn, tmp_path, clock=clock) as service:
        yield InventoryTrial(service, clock)
