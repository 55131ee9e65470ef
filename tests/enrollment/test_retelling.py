"""States that no request tells: in the slow round, and of newcomers that stop half-way."""

from __future__ import annotations

from uuid import UUID

import pytest

from services.enrollment import retelling
from services.enrollment.retelling import Retelling
from shared.events.device_state import DeviceState
from tests.enrollment.conftest import Apple, House


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
    await Retelling(context.pool, settings, house.clock).tell_next()
    assert len((await house.told()).of(DeviceState)) == told


async def begins(house: House) -> Apple:
    """A new device after its Authenticate."""
    device = house.device()
    device.identity = await house.identity(await house.credential())
    assert (await house.check_in(device, device.authenticate())).status == 200
    return device


async def newcomers(house: House) -> list[DeviceState]:
    await house.service.run_job("newcomers")
    return (await house.told()).of(DeviceState)


async def test_a_newcomer_that_sends_no_tokens_is_told_of_once_as_pending(house: House) -> None:
    device = await begins(house)
    assert not (await house.told()).of(DeviceState)
    house.later(seconds=29)
    assert await newcomers(house) == []
    house.later(seconds=2)
    [state] = await newcomers(house)
    assert state.device_id == await house.id_of(device)
    [enrollment] = state.enrollments
    assert (enrollment.state, enrollment.generation, enrollment.channels) == ("pending", 1, [])
    assert len(enrollment.pins) == 1
    assert await newcomers(house) == []
    assert (await house.check_in(device, device.token_update())).status == 200
    assert (await house.told()).enrollment.state == "enrolled"  # late is not never


async def test_who_is_complete_is_not_told_of_again_and_who_repeats_holds_nobody_up(
    house: House,
) -> None:
    """A device that repeats its Authenticate all the time is always young."""
    restless, quiet, quick = [await begins(house) for _ in range(3)]
    await house.check_in(quick, quick.token_update())
    house.later(seconds=31)
    await house.check_in(restless, restless.authenticate())
    assert [state.enrollments[0].generation for state in (await house.told()).of(DeviceState)] == [
        1,
        2,
    ]
    assert [state.device_id for state in await newcomers(house)] == [await house.id_of(quiet)]


async def test_many_newcomers_are_told_of_page_by_page(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retelling, "_PAGE", 2)
    devices = [await begins(house) for _ in range(5)]
    house.later(seconds=31)
    await house.told()
    context = house.service.context
    job = Retelling(context.pool, context.settings, house.clock)
    more = [await job.tell_newcomers() for _ in range(4)]
    assert more == [True, True, False, False]
    told = [state.device_id for state in (await house.told()).of(DeviceState)]
    assert sorted(told) == sorted([await house.id_of(device) for device in devices])
