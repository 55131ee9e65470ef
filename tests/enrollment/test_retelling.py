"""The slow round in which every device's state is told anew."""

from __future__ import annotations

from uuid import UUID

import pytest

from services.enrollment.retelling import Retelling
from shared.events.device_state import DeviceState
from tests.enrollment.conftest import House


async def turn(house: House) -> list[DeviceState]:
    await house.service.run_job("retell")
    told = await house.told()
    assert told.events == told.of(DeviceState)  # nothing else comes of it
    return told.of(DeviceState)


async def test_each_device_has_its_turn_and_then_a_new_round_begins(house: House) -> None:
    credential = await house.credential(max_uses=3)
    devices = [await house.enrolled(credential=credential) for _ in range(3)]
    newest = {one.device_id: one.model_dump() for one in (await house.told()).of(DeviceState)}
    await house.query("INSERT INTO device (device_id) VALUES ($1)", UUID(int=7))  # a shell
    rounds = [[await turn(house) for _ in range(4)] for _ in range(2)]
    ids = sorted([await house.id_of(device) for device in devices])
    for told in rounds:
        # One a turn, and one turn that finds the round's end.
        assert [[state.device_id for state in states] for states in told] == [
            *([i] for i in ids),
            [],
        ]
        assert {states[0].device_id: states[0].model_dump() for states in told[:3]} == newest


@pytest.mark.parametrize(("every", "told"), [(60, 1), (86_400, 40), (864_000, 200)])
async def test_a_larger_fleet_takes_larger_steps_but_never_large_ones(
    house: House, every: float, told: int
) -> None:
    """280 devices in seven days: 40 a day, and never more than 200 at once."""
    add = """
    INSERT INTO device (device_id, known, udid)
    SELECT gen_random_uuid(), true, 'u' || n FROM generate_series(1, 280) AS n
    """
    await house.query(add)
    await house.query("ANALYZE device")
    context = house.service.context
    settings = context.settings.model_copy(update={"retell_every": every})
    await Retelling(context.pool, settings).tell_next()
    assert len((await house.told()).of(DeviceState)) == told
