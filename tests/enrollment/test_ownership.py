"""A personal device becomes corporate after 72 hours that everybody hears of (security.md)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from uuid import UUID

import pytest

from shared.events.audit import AuditRecorded
from shared.events.device_state import DeviceState
from shared.events.devices import DeviceChanged, OwnershipAnnounced
from tests.enrollment.conftest import House


@pytest.fixture
async def personal(house: House) -> UUID:
    device = await house.enrolled(credential=await house.credential(ownership="personal"))
    device_id = await house.id_of(device)
    await house.told()
    return device_id


async def change(house: House, device_id: UUID, **fields: object) -> str:
    changed = await house.call("PATCH", f"/devices/{device_id}", fields, actor="ada")
    return str(changed["ownership"])


async def test_it_is_announced_and_waits(house: House, personal: UUID) -> None:
    assert await change(house, personal, ownership="corporate", name="Front desk") == "personal"
    told = await house.told()
    announced = told.one(OwnershipAnnounced)
    assert (announced.how, announced.actor, announced.ownership) == ("asked", "ada", "corporate")
    assert announced.due_at == house.clock.now() + timedelta(hours=72)
    assert told.one(DeviceChanged).after == {"name": "Front desk"}  # what harms nobody is done
    assert told.state.ownership == "personal"
    [asked] = [one for one in told.of(AuditRecorded) if one.action == "device.ownership_ask"]
    assert (asked.before, asked.actor) == ({"ownership": "personal"}, "ada")

    house.later(hours=71, minutes=59)
    await house.service.run_job("ownership")
    assert not (await house.told()).events
    house.later(minutes=1)
    await house.service.run_job("ownership")
    told = await house.told()
    assert (told.one(OwnershipAnnounced).how, told.state.ownership) == ("done", "corporate")
    assert told.one(DeviceChanged).after == {"ownership": "corporate"}
    await house.service.run_job("ownership")
    assert not (await house.told()).events


@pytest.mark.parametrize("to", ["corporate", "unknown"])
async def test_asking_again_begins_nothing_anew_and_shortens_nothing(
    house: House, personal: UUID, to: str
) -> None:
    await change(house, personal, ownership=to)
    house.later(hours=1)
    await house.told()
    await asyncio.gather(*(change(house, personal, ownership="corporate") for _ in range(5)))
    assert not (await house.told()).events
    [row] = await house.query("SELECT due_at, ownership FROM ownership_wait")
    assert (row["due_at"], row["ownership"]) == (house.clock.now() + timedelta(hours=71), to)


async def test_calling_it_personal_again_is_a_veto(house: House, personal: UUID) -> None:
    await change(house, personal, ownership="corporate")
    await house.told()
    assert await change(house, personal, ownership="personal") == "personal"
    told = await house.told()
    assert told.one(OwnershipAnnounced).how == "vetoed"
    assert told.one(AuditRecorded).action == "device.ownership_veto"
    house.later(hours=73)
    await house.service.run_job("ownership")
    assert not (await house.told()).events
    assert await change(house, personal, ownership="personal") == "personal"
    assert not (await house.told()).events  # nothing waits: nothing to say


async def test_taking_power_away_and_what_is_not_personal_wait_for_nothing(house: House) -> None:
    device_id = await house.id_of(await house.enrolled())
    assert await change(house, device_id, ownership="unknown") == "unknown"
    assert await change(house, device_id, ownership="corporate") == "corporate"
    assert await change(house, device_id, ownership="personal") == "personal"
    told = await house.told()
    assert not told.of(OwnershipAnnounced)
    assert told.of(DeviceState)[-1].ownership == "personal"


async def test_enrolling_anew_does_not_make_it_corporate(house: House, personal: UUID) -> None:
    """Whoever makes credentials must not get around the wait."""
    [row] = await house.query("SELECT serial, udid FROM device WHERE device_id = $1", personal)
    device = house.device(serial=row["serial"])
    device.udid = row["udid"]
    path = await house.credential(ownership="corporate", serial=row["serial"])
    device.identity = await house.identity(path)
    assert (await house.check_in(device, device.authenticate())).status == 200
    assert (await house.check_in(device, device.token_update())).status == 200
    told = await house.told()
    assert (told.state.device_id, told.state.ownership) == (personal, "personal")
