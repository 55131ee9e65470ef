"""configuration: the empty set of declarations, and its projection of devices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.configuration.app import SERVICE
from shared.events.device_state import DeviceState, EnrollmentState
from shared.events.devices import Ownership, Platform
from shared.runtime.testing import Trial, trial
from tools.embedded.testing import MakeDatabase

DEVICE, ENROLLMENT = uuid4(), uuid4()
PATH = "/internal/v1/configuration/declarations"


@pytest.fixture
async def service(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Trial]:
    async with trial(SERVICE, await make_database("configuration"), tmp_path) as running:
        yield running


async def _ask(service: Trial, endpoint: str) -> dict[str, Any]:
    body = {"device_id": DEVICE, "endpoint": endpoint}
    answer = await service.call("POST", PATH, body, as_service="enrollment")
    assert answer.status == 200
    result: dict[str, Any] = answer.json
    return result


async def test_tokens_and_items_name_the_same_set(service: Trial) -> None:
    tokens = (await _ask(service, "tokens"))["body"]["SyncTokens"]
    items = (await _ask(service, "declaration-items"))["body"]
    assert tokens["DeclarationsToken"] == items["DeclarationsToken"]
    assert items["Declarations"] == {
        "Activations": [],
        "Configurations": [],
        "Assets": [],
        "Management": [],
    }
    assert datetime.fromisoformat(tokens["Timestamp"]).tzinfo == UTC


async def test_a_status_report_is_taken_and_an_unknown_declaration_is_not_found(
    service: Trial,
) -> None:
    assert await _ask(service, "status") == {"status": 200, "body": None}
    assert await _ask(service, "declaration/configuration/x") == {"status": 404, "body": None}


async def test_only_enrollment_asks(service: Trial) -> None:
    answer = await service.call("POST", PATH, {}, as_service="inventory")
    assert answer.status == 401


def _state(sequence: int, *, deleted: bool = False, state: Any = "enrolled") -> DeviceState:
    enrollment = EnrollmentState(
        enrollment_id=ENROLLMENT,
        generation=1,
        state=state,
        pins=[],
        channels=[],
        authenticated_at=datetime.now(UTC),
    )
    return DeviceState(
        device_id=DEVICE,
        platform=Platform.IOS,
        ownership=Ownership.CORPORATE,
        enrollments=[enrollment],
        current_enrollment=ENROLLMENT,
        deleted=deleted,
        tags=[str(sequence)],
    )


async def _known(service: Trial) -> list[tuple[UUID, bool, int]]:
    rows = await service.context.pool.fetch("SELECT device_id, managed, sequence FROM device")
    return [(row["device_id"], row["managed"], row["sequence"]) for row in rows]


async def test_the_newest_state_counts_whatever_the_order(service: Trial) -> None:
    await service.hears(_state(1), service="enrollment")
    [(device, managed, first)] = await _known(service)
    assert (device, managed) == (DEVICE, True)
    await service.hears(_state(2, state="ended"), service="enrollment", sequence=first + 10)
    await service.hears(_state(3), service="enrollment", sequence=first + 5)
    assert await _known(service) == [(DEVICE, False, first + 10)]


async def test_a_deleted_device_is_forgotten(service: Trial) -> None:
    await service.hears(_state(1), service="enrollment")
    await service.hears(_state(2, deleted=True), service="enrollment")
    assert await _known(service) == []
