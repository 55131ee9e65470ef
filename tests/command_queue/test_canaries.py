"""What changes many devices goes to a few first, and then waits for a person."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from services.command_queue import canaries
from shared.events.audit import AuditRecorded
from shared.events.commands import CommandContinued, CommandCreated, TargetState
from shared.events.groups import GroupState
from shared.runtime.testing import Answer
from tests.command_queue.approving import API, aged, profile
from tests.command_queue.fleet import NO_BUDGETS, Fleet, Phone
from tests.command_queue.test_scopes import put

WIDE = 30
"""More than ten, which is what a fleet of this size changes at once."""
WIFI = profile("com.apple.wifi.managed")


@pytest.fixture
async def phones(fleet: Fleet) -> list[Phone]:
    found: list[Phone] = await fleet.enroll(WIDE)
    await _seen(fleet, *found)
    return found


async def _seen(fleet: Fleet, *phones: Phone) -> None:
    await fleet.rows(
        "INSERT INTO presence (device_id, last_seen_at) SELECT unnest($1::uuid[]), $2"
        " ON CONFLICT (device_id) DO UPDATE SET last_seen_at = excluded.last_seen_at",
        [phone.device_id for phone in phones],
        fleet.clock.now(),
    )


async def _install(fleet: Fleet, *phones: Phone, **fields: Any) -> dict[str, Any]:
    fields = {"kind": "configuration.install", "params": WIFI, **fields}
    return await fleet.ask(*phones, **fields)


async def _given(*phones: Phone) -> list[Phone]:
    """Those that get something; they acknowledge it."""
    return [phone for phone in phones if await phone.drain()]


async def _go_on(fleet: Fleet, command_id: str, **who: Any) -> Answer:
    who = {"via": "session:one", **who}
    answer = await fleet.trial.call("POST", f"{API}/{command_id}/continue", {}, **who)
    await fleet.job("expand targets")
    return answer


async def test_a_few_have_it_first_and_the_others_when_a_person_says_so(
    fleet: Fleet, phones: list[Phone]
) -> None:
    asked = await _install(fleet, *phones)
    command_id = asked["command_id"]
    shown = await fleet.show(command_id)
    assert shown["progress"] == {"queued": 5, "parked": WIDE - 5}
    assert (shown["canary"]["devices"], shown["canary"]["rest"]) == (5, WIDE - 5)
    assert (await _go_on(fleet, command_id)).json["code"] == "not_yet"
    first = await _given(*phones)
    assert len(first) == 5
    fleet.clock.advance(timedelta(hours=1))
    for _ in range(3):
        await fleet.job("sweep ended commands")
    assert await _given(*phones) == []
    answer = await _go_on(fleet, command_id, actor="bob")
    assert answer.json == {"targets": WIDE - 5}
    assert len(await _given(*phones)) == WIDE - 5
    events = await fleet.events()
    [created] = [one for one in events if isinstance(one, CommandCreated)]
    assert created.canary == 5
    [told] = [one for one in events if isinstance(one, CommandContinued)]
    assert (told.actor, told.answered, told.targets) == ("bob", 5, WIDE - 5)
    audits = [e for e in events if isinstance(e, AuditRecorded)]
    [entry] = [e for e in audits if e.action == "command.continue"]
    assert (entry.actor, entry.target, entry.source) == ("bob", command_id, "127.0.0.1")
    assert entry.permission == "command.configuration.install"
    assert entry.meta.correlation_id == answer.headers["X-Correlation-Id"]
    assert entry.after
    assert (await _go_on(fleet, command_id)).status == 409
    await fleet.job("sweep ended commands")
    assert len(await fleet.finished()) == WIDE


async def test_stopping_ends_what_waits_and_tells_of_each(
    fleet: Fleet, phones: list[Phone]
) -> None:
    command_id = (await _install(fleet, *phones))["command_id"]
    first = await _given(*phones)
    await fleet.trial.call("POST", f"{API}/{command_id}/cancel", {"reason": "it breaks Wi-Fi"})
    assert (await fleet.show(command_id))["progress"] == {
        "acknowledged": 5,
        "cancelled": WIDE - 5,
    }
    assert (await _go_on(fleet, command_id)).status == 409
    await fleet.job("sweep ended commands")
    await fleet.job("expand targets")
    ends = {one.device_id: one.state for one in await fleet.finished()}
    assert len(ends) == WIDE
    cancelled = {device for device, state in ends.items() if state is TargetState.CANCELLED}
    assert cancelled == {one.device_id for one in phones} - {one.device_id for one in first}
    assert await _given(*phones) == []


async def test_what_nobody_let_go_on_expires(fleet: Fleet, phones: list[Phone]) -> None:
    await _install(fleet, *phones, expires_in_seconds=3600)
    fleet.clock.advance(timedelta(hours=2))
    await fleet.job("sweep ended commands")
    await fleet.job("expand targets")
    await fleet.job("sweep ended commands")
    states = [one.state for one in await fleet.finished()]
    assert states == [TargetState.EXPIRED] * WIDE
    assert await fleet.rows("SELECT FROM parked") == []


async def test_few_devices_and_single_acts_need_no_canary(
    fleet: Fleet, phones: list[Phone]
) -> None:
    few = await _install(fleet, *phones[:10])
    restart = await fleet.ask(*phones, kind="device.restart")
    font = await _install(fleet, *phones, params=profile("com.apple.font"))
    refresh = await fleet.ask(*phones)
    for asked in (few, restart, font, refresh):
        shown = await fleet.show(asked["command_id"])
        assert shown["canary"] is None
        assert "parked" not in shown["progress"]


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("configuration.install", profile("com.apple.security.root")),
        ("configuration.install", profile("com.apple.mobiledevice.passwordpolicy")),
        ("configuration.install", profile("com.apple.of.tomorrow")),
        ("configuration.remove", {"identifier": "org.stranger"}),
    ],
)
async def test_what_is_unknown_counts_as_a_change(
    fleet: Fleet, phones: list[Phone], kind: str, params: dict[str, str]
) -> None:
    asked = await fleet.ask(*phones, kind=kind, params=params)
    assert (await fleet.show(asked["command_id"]))["canary"] is not None


async def test_many_small_commands_are_one_wide_change(fleet: Fleet, phones: list[Phone]) -> None:
    for at in (0, 5):
        small = await _install(fleet, *phones[at : at + 5])
        assert (await fleet.show(small["command_id"]))["canary"] is None
    third = await _install(fleet, *phones[10:20])
    assert (await fleet.show(third["command_id"]))["canary"]["devices"] == 5
    other = await _install(fleet, *phones[20:], params=profile("com.apple.vpn.managed"))
    assert (await fleet.show(other["command_id"]))["canary"] is None


async def test_what_went_on_once_needs_no_canary_for_a_week(
    fleet: Fleet, phones: list[Phone]
) -> None:
    command_id = (await _install(fleet, *phones))["command_id"]
    await _given(*phones)
    assert (await _go_on(fleet, command_id)).status == 200
    again = await _install(fleet, *phones)
    assert (await fleet.show(again["command_id"]))["canary"] is None
    fleet.clock.advance(timedelta(days=8))
    await _seen(fleet, *phones)
    later = await _install(fleet, *phones)
    assert (await fleet.show(later["command_id"]))["canary"] is not None


async def test_who_is_protected_or_was_not_seen_is_never_first(
    fleet: Fleet, phones: list[Phone]
) -> None:
    board = uuid4()
    await fleet.trial.hears(
        GroupState(group_id=board, name="Board", protected=True), service="inventory"
    )
    # And a group of which nothing was told.
    for phone, group in zip(phones[:26], [board, uuid4()] * 13, strict=True):
        await put(fleet, phone, group)
    await fleet.rows("DELETE FROM presence WHERE device_id = $1", phones[26].device_id)
    asked = await _install(fleet, *phones)
    assert (await fleet.show(asked["command_id"]))["canary"]["devices"] == 3
    assert {one.device_id for one in await _given(*phones)} == {
        one.device_id for one in phones[27:]
    }


async def test_where_nobody_can_be_first_all_wait(fleet: Fleet, phones: list[Phone]) -> None:
    await fleet.rows("DELETE FROM presence")
    command_id = (await _install(fleet, *phones))["command_id"]
    assert await _given(*phones) == []
    assert (await fleet.show(command_id))["canary"]["devices"] == 0
    assert (await _go_on(fleet, command_id)).json == {"targets": WIDE}
    assert len(await _given(*phones)) == WIDE


async def test_if_no_first_device_answers_a_person_may_go_on_after_a_day(
    fleet: Fleet, phones: list[Phone]
) -> None:
    command_id = (await _install(fleet, *phones))["command_id"]
    fleet.clock.advance(canaries.PATIENCE - timedelta(minutes=1))
    assert (await _go_on(fleet, command_id)).status == 409
    fleet.clock.advance(timedelta(minutes=2))
    assert (await _go_on(fleet, command_id)).status == 200


async def test_who_may_not_let_it_go_on(fleet: Fleet, phones: list[Phone]) -> None:
    command_id = (await _install(fleet, *phones))["command_id"]
    await _given(*phones)
    right = ["command.request", "command.configuration.install"]
    assert (await _go_on(fleet, command_id, via="token:one")).status == 403
    assert (await _go_on(fleet, command_id, permissions=right[:1])).status == 403
    groups = {uuid4(): right}
    assert (await _go_on(fleet, command_id, permissions=[], groups=groups)).status == 404
    assert (await _go_on(fleet, str(uuid4()))).status == 404
    assert (await _go_on(fleet, command_id, permissions=right)).status == 200


async def test_a_freeze_holds_what_goes_on(fleet: Fleet, phones: list[Phone]) -> None:
    command_id = (await _install(fleet, *phones))["command_id"]
    await _given(*phones)
    await fleet.trial.call("POST", f"{API}/freeze", {"reason": "look"})
    assert (await _go_on(fleet, command_id)).status == 200
    assert await _given(*phones) == []


async def test_own_bodies_and_user_channels_are_parted_with_their_devices(
    fleet: Fleet, phones: list[Phone]
) -> None:
    kind = "com.apple.vpn.managed"
    bodies = {str(one.device_id): profile(kind, N=n) for n, one in enumerate(phones)}
    command_id = (await _install(fleet, *phones, bodies=bodies))["command_id"]
    found = await fleet.rows(
        "SELECT device_id, body FROM pending WHERE command_id = $1", UUID(command_id)
    )
    assert len(found) == 5
    assert len({row["body"] for row in found}) == 5
    first = await _given(*phones)
    assert {row["device_id"] for row in found} == {one.device_id for one in first}
    await _go_on(fleet, command_id)
    assert len(await _given(*phones)) == WIDE - 5


@pytest.mark.parametrize(
    ("fleet_size", "targets"), [(0, 10), (900, 10), (2000, 20), (10_000, 100), (10**6, 100)]
)
def test_how_many_are_changed_at_once(fleet_size: int, targets: int) -> None:
    assert canaries.wide(fleet_size) == targets


class TestHeld:
    """Beyond a budget it waits for people first, and then for the canary."""

    @pytest.fixture
    def budgets(self) -> dict[str, str]:
        prefix = "MUSTER_COMMAND_QUEUE_DISRUPTIVE_OF_ACTOR"
        return {**NO_BUDGETS, prefix: '[{"minutes": 10, "least": 20}]'}

    async def test_an_approved_change_begins_with_its_canary_and_is_charged_whole(
        self, fleet: Fleet, phones: list[Phone]
    ) -> None:
        [ada] = await aged(fleet, 1)
        await _seen(fleet, *phones)
        asked = await _install(fleet, *phones)
        assert asked["state"] == "held"
        assert await _given(*phones) == []
        assert (await _go_on(fleet, asked["command_id"])).status == 409
        assert (await ada.approve(asked["command_id"])).json["released"]
        await fleet.job("queue released targets")
        assert [row["targets"] for row in await fleet.rows("SELECT targets FROM charge")] == [WIDE]
        assert len(await _given(*phones)) == 5
        assert (await _go_on(fleet, asked["command_id"])).status == 200
        assert len(await _given(*phones)) == WIDE - 5

    async def test_what_waits_is_part_of_what_was_approved(
        self, fleet: Fleet, phones: list[Phone]
    ) -> None:
        [ada] = await aged(fleet, 1)
        await _seen(fleet, *phones)
        asked = await _install(fleet, *phones)
        await fleet.rows("UPDATE parked SET device_ids[1] = gen_random_uuid()")
        assert not (await ada.approve(asked["command_id"])).json["released"]
