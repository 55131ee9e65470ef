"""Asking for commands: by API and by event, once for each key, expanded to queues."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID, uuid4

import pytest

from services.command_queue.store import devices
from shared.bus import apply
from shared.bus.testing import travelled
from shared.events.audit import AuditRecorded
from shared.events.commands import (
    CommandCreated,
    CommandRequested,
    TargetState,
)
from tests.command_queue.fleet import Fleet
from tests.command_queue.test_profiles import profile


async def _post(fleet: Fleet, **body: Any) -> Any:
    return await fleet.trial.call("POST", "/api/v1/commands", body)


async def test_a_repeat_of_a_request_is_the_same_command(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    body = {
        "kind": "device.lock",
        "params": {"pin": "123456"},
        "device_ids": [str(phone.device_id)],
        "idempotency_key": "once",
    }
    first, second = await _post(fleet, **body), await _post(fleet, **body)
    assert (first.status, second.status) == (202, 200)
    assert first.json["command_id"] == second.json["command_id"]
    assert (first.json["created"], second.json["created"]) == (True, False)
    assert len([e for e in await fleet.events() if isinstance(e, CommandCreated)]) == 1
    assert len(await fleet.rows("SELECT FROM charge")) == 1


@pytest.mark.parametrize(
    "change",
    [{"params": {"pin": "654321"}}, {"kind": "device.restart", "params": {}}, {"reason": "x"}],
)
async def test_the_same_key_with_another_request_is_409(
    fleet: Fleet, change: dict[str, Any]
) -> None:
    phone = await fleet.enroll()
    body: dict[str, Any] = {
        "kind": "device.lock",
        "params": {"pin": "123456"},
        "device_ids": [str(phone.device_id)],
        "idempotency_key": "once",
    }
    assert (await _post(fleet, **body)).status == 202
    answer = await _post(fleet, **{**body, **change})
    assert answer.status == 409
    assert answer.json["code"] == "idempotency_key_taken"
    assert len(await fleet.rows("SELECT FROM command")) == 1


async def test_a_key_belongs_to_its_actor(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    body = {
        "kind": "device.restart",
        "device_ids": [str(phone.device_id)],
        "idempotency_key": "mine",
    }
    first = await fleet.trial.call("POST", "/api/v1/commands", body, actor="ann")
    second = await fleet.trial.call("POST", "/api/v1/commands", body, actor="bob")
    assert first.json["command_id"] != second.json["command_id"]


async def test_each_kind_needs_its_own_permission(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    body = {
        "kind": "device.erase",
        "device_ids": [str(phone.device_id)],
        "idempotency_key": "k",
    }
    permissions = ["command.request", "command.device.lock"]
    answer = await fleet.trial.call("POST", "/api/v1/commands", body, permissions=permissions)
    assert answer.status == 403
    permissions = ["command.request", "command.device.erase"]
    answer = await fleet.trial.call("POST", "/api/v1/commands", body, permissions=permissions)
    assert answer.status == 202


@pytest.mark.parametrize(
    ("kind", "params", "code"),
    [
        ("device.dance", {}, "kind_unknown"),
        ("inventory.refresh", {"section": "moods"}, "params_invalid"),
        ("inventory.refresh", {}, "params_invalid"),
        ("device.lock", {"pin": "12345"}, "params_invalid"),
        ("device.lock", {"pinn": "123456"}, "params_invalid"),
        ("device.erase", {"obliteration_behavior": "Maybe"}, "params_invalid"),
        ("configuration.install", {"profile": "bm8gcHJvZmlsZQ=="}, "body_invalid"),
        ("configuration.remove", {"identifier": ""}, "params_invalid"),
        ("raw", {"platform": "apple", "payload": "AAAA"}, "body_invalid"),
        ("raw", {"platform": "windows", "payload": "AAAA"}, "params_invalid"),
    ],
)
async def test_a_body_that_cannot_be_valid_is_refused_when_asked_for(
    fleet: Fleet, kind: str, params: dict[str, Any], code: str
) -> None:
    phone = await fleet.enroll()
    answer = await _post(
        fleet,
        kind=kind,
        params=params,
        device_ids=[str(phone.device_id)],
        idempotency_key="k",
    )
    assert (answer.status, answer.json["code"]) == (422, code)
    assert await fleet.rows("SELECT FROM command") == []


async def test_a_refusal_never_quotes_a_pin(fleet: Fleet) -> None:
    answer = await _post(
        fleet,
        kind="device.lock",
        params={"pin": "9182735"},
        device_ids=[str(uuid4())],
        idempotency_key="k",
    )
    assert answer.status == 422
    assert "9182735" not in answer.text


async def test_targets_must_be_named(fleet: Fleet) -> None:
    answer = await _post(fleet, kind="device.restart", idempotency_key="k")
    assert answer.json["code"] == "targets_missing"
    answer = await _post(
        fleet, kind="device.restart", idempotency_key="k", channel_ids=[str(uuid4())]
    )
    assert answer.json["code"] == "channel_unknown"


@pytest.mark.parametrize("page", [1, 2, 3, 500])
async def test_all_means_who_is_enrolled_now_and_late_members_never_join(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(devices, "_PAGE", page)
    phones = await fleet.enroll(3)
    await fleet.enroll(state="ended")
    answer = await _post(
        fleet,
        kind="inventory.refresh",
        params={"section": "security"},
        idempotency_key="k",
        all=True,
    )
    assert answer.json["target_count"] == 3
    late = await fleet.enroll()
    await fleet.job("expand targets")
    assert await late.idle() is None
    for phone in phones:
        assert await phone.idle() is not None


async def test_a_device_named_twice_is_one_target(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    asked = await fleet.ask(phone, phone)
    assert asked["target_count"] == 1
    assert len(await phone.drain()) == 1


async def test_a_target_may_have_a_body_of_its_own(fleet: Fleet) -> None:
    one, other = await fleet.enroll(2, platform="macos", os_version="14.1")
    await fleet.ask(
        one,
        other,
        kind="device.lock",
        params={"message": "for all"},
        bodies={str(other.device_id): {"message": "for you"}},
    )
    [first], [second] = await one.drain(), await other.drain()
    assert first.command["Message"] == "for all"
    assert second.command["Message"] == "for you"


async def test_a_command_is_as_dangerous_as_its_most_dangerous_body(fleet: Fleet) -> None:
    one, other = await fleet.enroll(2)
    asked = await fleet.ask(
        one,
        other,
        kind="device.lock",
        bodies={str(other.device_id): {"pin": "123456"}},
    )
    assert asked["command_class"] == "destructive"


async def test_pins_are_encrypted_at_rest_and_in_no_event(fleet: Fleet) -> None:
    phone = await fleet.enroll(platform="macos", os_version="14.1")
    asked = await fleet.ask(phone, kind="device.lock", params={"pin": "918273"})
    [given] = await phone.drain()
    assert given.command["PIN"] == "918273"
    for table in ("command", "pending", "outcome", "outbox", "target"):
        rows = await fleet.rows(f"SELECT {table}::text AS row FROM {table}")
        assert all("918273" not in row["row"] for row in rows)
        assert all(b"918273".hex() not in row["row"] for row in rows)
    shown = await fleet.show(asked["command_id"])
    assert shown["summary"] == {"request_type": "DeviceLock", "pin": "set"}


async def test_a_large_command_is_expanded_in_chunks_with_progress(fleet: Fleet) -> None:
    ids = [str(uuid4()) for _ in range(2500)]
    phone = await fleet.enroll()
    answer = await _post(
        fleet,
        kind="inventory.refresh",
        params={"section": "security"},
        device_ids=[*ids, str(phone.device_id)],
        idempotency_key="k",
    )
    command_id = answer.json["command_id"]
    progress = (await fleet.show(command_id))["progress"]
    assert progress == {"unexpanded": 2501}
    assert await fleet.trial.run_job("expand targets") is True
    progress = (await fleet.show(command_id))["progress"]
    assert progress["unexpanded"] == 2251
    # Whoever goes on goes on where this one stopped.
    await fleet.job("expand targets")
    progress = (await fleet.show(command_id))["progress"]
    assert progress == {"waiting": 2500, "queued": 1}


async def test_small_commands_share_a_transaction_and_keep_their_order(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    asked = [await fleet.ask(phone, expand=False) for _ in range(20)]
    await fleet.job("expand targets")
    handed = [one.command_uuid for one in await phone.drain()]
    assert handed == [one["command_id"] for one in asked]


def _requested(device_id: UUID, **fields: Any) -> CommandRequested:
    return CommandRequested(
        **{
            "device_id": device_id,
            "kind": "inventory.refresh",
            "params": {"section": "security"},
            "idempotency_key": str(uuid4()),
            "actor": "service:inventory",
            **fields,
        }
    )


async def _hear(fleet: Fleet, *events: CommandRequested, service: str = "inventory") -> None:
    # The registry knows one request topic a service.
    arrived = travelled(*events, service=service)
    trial = fleet.trial
    await apply(trial.context.pool, "command_queue", trial.parts.handlers, arrived)
    await fleet.job("expand targets")


async def test_a_service_asks_by_event_and_a_repeat_is_one_command(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    event = _requested(phone.device_id)
    await _hear(fleet, event)
    await _hear(fleet, event)
    assert len(await phone.drain()) == 1
    created = [e for e in await fleet.events() if isinstance(e, CommandCreated)]
    assert [e.actor for e in created] == ["service:inventory"]


async def test_the_correlation_of_a_request_goes_on_to_its_outcome(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    [arrived] = travelled(_requested(phone.device_id), service="inventory")
    trial = fleet.trial
    await apply(trial.context.pool, "command_queue", trial.parts.handlers, [arrived])
    await fleet.job("expand targets")
    await phone.drain()
    events = [e for e in await fleet.events() if not isinstance(e, AuditRecorded)]
    assert len(events) == 3
    assert {e.meta.correlation_id for e in events} == {arrived.meta.correlation_id}


async def test_a_request_by_event_that_cannot_be_is_told_as_failed(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await _hear(fleet, _requested(phone.device_id, params={"section": "moods"}))
    [finished] = await fleet.finished()
    assert (finished.state, finished.device_id) == (TargetState.FAILED, phone.device_id)
    assert (finished.reason or "").startswith("params_invalid")
    assert await fleet.rows("SELECT FROM command") == []


async def test_an_unknown_device_waits_ten_minutes_then_fails_with_a_reason(fleet: Fleet) -> None:
    stranger = uuid4()
    await _hear(fleet, _requested(stranger))
    await fleet.job("give up unknown devices")
    assert await fleet.finished() == []
    fleet.clock.advance(timedelta(minutes=10))
    await fleet.job("give up unknown devices")
    [finished] = await fleet.finished()
    assert (finished.state, finished.reason) == (TargetState.FAILED, "device unknown")
    assert (finished.device_id, finished.channel_id) == (stranger, None)
    assert await fleet.rows("SELECT FROM waiting") == []


async def test_a_device_that_is_introduced_in_time_gets_what_waited_for_it(fleet: Fleet) -> None:
    phone = fleet.phone()
    await _hear(fleet, _requested(phone.device_id))
    fleet.clock.advance(timedelta(minutes=9))
    await phone.tell()
    assert len(await fleet.queued()) == 1
    assert len(await phone.drain()) == 1
    assert await fleet.rows("SELECT FROM waiting") == []


async def test_what_waits_for_an_unknown_device_can_be_cancelled(fleet: Fleet) -> None:
    stranger = fleet.phone()
    asked = await fleet.ask(stranger)
    await fleet.trial.call("POST", f"/api/v1/commands/{asked['command_id']}/cancel", {})
    await fleet.job("give up unknown devices")
    [finished] = await fleet.finished()
    assert finished.state is TargetState.CANCELLED


@pytest.mark.parametrize(
    ("kind", "fields", "why"),
    [
        ("device.restart", {"supervised": False}, "not eligible: needs a supervised device"),
        (
            "device.erase",
            {"ownership": "personal"},
            "not eligible: personal devices are never erased",
        ),
        ("device.erase", {"mode": "user"}, "not eligible: forbidden in a user enrollment"),
        ("device.lock", {"platform": "tvos"}, "not eligible: tvos does not know this command"),
        ("device.lock", {"access_rights": 1}, "not eligible: the enrollment lacks access right 4"),
        ("device.restart", {"os_version": "9.3"}, "not eligible: needs ios 10.3 or newer"),
        ("device.lock", {"state": "ended"}, "not enrolled"),
    ],
)
async def test_a_target_that_cannot_take_the_command_fails_with_the_reason(
    fleet: Fleet, kind: str, fields: dict[str, Any], why: str
) -> None:
    phone = await fleet.enroll(**fields)
    await fleet.ask(phone, kind=kind)
    [finished] = await fleet.finished()
    assert (finished.state, finished.reason) == (TargetState.FAILED, why)


async def test_clear_passcode_opens_the_unlock_token_when_it_is_handed_out(fleet: Fleet) -> None:
    phone = await fleet.enroll(unlock_token=b"the token")
    await fleet.ask(phone, kind="device.clear_passcode")
    phone.unlock_token = b"a newer token"
    await phone.tell()
    [given] = await phone.drain()
    assert given.command == {"RequestType": "ClearPasscode", "UnlockToken": b"a newer token"}
    for table in ("command", "pending", "outbox", "channel"):
        rows = await fleet.rows(f"SELECT {table}::text AS row FROM {table}")
        assert all("newer token" not in row["row"] for row in rows)


async def test_clear_passcode_without_a_token_fails_and_the_next_one_goes(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    await fleet.ask(phone, kind="device.clear_passcode")
    other = await fleet.ask(phone)
    one = await phone.idle()
    assert one
    assert one.command_uuid == other["command_id"]
    [finished] = await fleet.finished()
    assert finished.reason == "no unlock token is known of this device"


async def test_a_management_profile_is_held_unless_enrollment_renews(fleet: Fleet) -> None:
    phone = await fleet.enroll()
    params = {"profile": profile("com.apple.mdm")}
    held = await fleet.ask(phone, kind="configuration.install", params=params)
    assert (held["state"], held["command_class"]) == ("held", "destructive")
    assert await phone.idle() is None
    asked = _requested(phone.device_id, kind="configuration.install", params=params)
    await _hear(fleet, asked, service="inventory")
    assert await phone.idle() is None
    asked = _requested(phone.device_id, kind="configuration.install", params=params)
    await _hear(fleet, asked, service="enrollment")
    [given] = await phone.drain()
    assert given.request_type == "InstallProfile"


async def test_lists_are_paged_by_key_and_a_devices_queue_and_history_are_shown(
    fleet: Fleet,
) -> None:
    phone = await fleet.enroll()
    asked = [(await fleet.ask(phone))["command_id"] for _ in range(5)]
    for _ in range(2):
        one = await phone.idle()
        assert one
        await phone.say("Acknowledged", one.command_uuid)
    found: list[str] = []
    cursor = ""
    while True:
        page = (await fleet.trial.call("GET", f"/api/v1/commands?limit=2{cursor}")).json
        found += [item["command_id"] for item in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(found) == sorted(asked)
    assert found == sorted(found, reverse=True)
    path = f"/api/v1/commands/devices/{phone.device_id}?limit=1"
    shown = (await fleet.trial.call("GET", path)).json
    assert [item["state"] for item in shown["queue"]] == ["sent", "queued", "queued"]
    assert len(shown["items"]) == 1
    assert shown["next"]


async def test_commands_are_listed_by_device_and_time(fleet: Fleet) -> None:
    phone, other = await fleet.enroll(), await fleet.enroll()
    asked = [await fleet.ask(*phones) for phones in ((phone,), (phone, other), (other,))]
    ids = [row["command_id"] for row in asked]
    one = await phone.idle()
    assert one
    await phone.say("Acknowledged", one.command_uuid)

    async def listed(**query: Any) -> list[str]:
        path = f"/api/v1/commands?{urlencode(query)}"
        answer = await fleet.trial.call("GET", path)
        assert answer.status == 200, answer.text
        return [item["command_id"] for item in answer.json["items"]]

    everything = sorted(ids, reverse=True)
    assert await listed(device=phone.device_id) == [one for one in everything if one != ids[2]]
    of_other = [one for one in everything if one != ids[0]]
    assert await listed(device=other.device_id) == of_other
    assert await listed(device=other.device_id, kind="device.lock") == []
    assert await listed(device=other.device_id, state="active", limit=1) == of_other[:1]
    later = fleet.clock.now() + timedelta(hours=1)
    earlier = later - timedelta(hours=2)
    assert await listed(device=phone.device_id, since=later.isoformat()) == []
    assert await listed(device=phone.device_id, until=earlier.isoformat()) == []
    assert await listed(since=earlier.isoformat(), until=later.isoformat()) == everything
    assert await listed(since=later.isoformat()) == await listed(until=earlier.isoformat()) == []


async def test_unknown_ids_are_404_and_foreign_cursors_400(fleet: Fleet) -> None:
    for path in (f"/api/v1/commands/{uuid4()}", "/api/v1/commands/x/targets"):
        assert (await fleet.trial.call("GET", path)).status == 404
    answer = await fleet.trial.call("POST", f"/api/v1/commands/{uuid4()}/cancel", {})
    assert answer.status == 404
    assert (await fleet.trial.call("GET", "/api/v1/commands?cursor=WzFd")).status == 400
