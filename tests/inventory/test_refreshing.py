"""When devices are asked: at enrollment, on a schedule, by people; and when no more."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from services.inventory.facts import SECTIONS
from shared.bus import apply
from shared.bus.testing import travelled
from shared.events import uuid7
from shared.events.audit import AuditRecorded
from shared.events.commands import CommandRequested, DeviceSeen
from shared.events.devices import (
    DeviceEnrolled,
    DeviceImported,
    DeviceUnenrolled,
    Ownership,
    Platform,
)

PATH = "/api/v1/inventory/devices"


def enrolled(device_id: UUID, enrollment_id: UUID, generation: int, at: Any) -> DeviceEnrolled:
    return DeviceEnrolled(
        device_id=device_id,
        enrollment_id=enrollment_id,
        generation=generation,
        channel_id=device_id,
        platform=Platform.IOS,
        ownership=Ownership.CORPORATE,
        enrolled_at=at,
    )


async def test_an_enrolled_device_is_asked_for_everything_once_a_generation(
    inventory: Any,
) -> None:
    device, enrollment = uuid7(), uuid7()
    keys = []
    for generation in (1, 1, 2):
        event = enrolled(device, enrollment, generation, inventory.clock.now())
        await inventory.service.hears(event, service="enrollment")
        requests = (await inventory.told()).of(CommandRequested)
        assert [request.params["section"] for request in requests] == list(SECTIONS)
        keys.append([request.idempotency_key for request in requests])
    assert keys[0] == keys[1]
    assert not set(keys[0]) & set(keys[2])


async def test_each_managed_device_is_asked_once_in_an_interval(inventory: Any) -> None:
    devices = [await inventory.device() for _ in range(12)]
    asked: list[UUID] = []
    for _ in range(24):
        inventory.later(hours=1)
        await inventory.service.run_job("refresh")
        requests = (await inventory.told()).of(CommandRequested)
        asked += [r.device_id for r in requests if r.params == {"section": "security"}]
        assert len(requests) == 5 * len({r.device_id for r in requests})
    assert sorted(asked) == sorted(devices)


@pytest.mark.parametrize("known_first", [True, False])
async def test_imported_devices_are_asked_at_the_schedules_pace_and_keep_their_place(
    inventory: Any, known_first: bool
) -> None:
    """A fleet comes in minutes; device-state and the import's own event may come in any order."""
    hurried, patient = uuid7(), uuid7()

    async def introduced() -> None:
        for device in (hurried, patient):
            await inventory.service.hears(inventory.state(device), service="enrollment")

    if known_first:
        await introduced()
    for device in (hurried, patient):
        event = DeviceImported(
            device_id=device,
            enrollment_id=inventory.enrollments.get(device, device),
            generation=1,
            channel_id=device,
            platform=Platform.IOS,
            ownership=Ownership.CORPORATE,
            refresh=device == hurried,
            actor="tester",
            imported_at=inventory.clock.now(),
        )
        await inventory.service.hears(event, service="enrollment")
    if not known_first:
        await introduced()
    assert not (await inventory.told()).of(CommandRequested)  # 100,000 would come at once
    pool = inventory.service.context.pool
    places = {r[0]: r[1] for r in await pool.fetch("SELECT device_id, refresh_due_at FROM device")}
    assert places[hurried] <= inventory.clock.now() < places[patient]
    await inventory.service.run_job("refresh")
    requests = (await inventory.told()).of(CommandRequested)
    assert {r.device_id for r in requests} == {hurried}
    assert [r.params["section"] for r in requests] == list(SECTIONS)
    [[next_turn]] = await pool.fetch(
        "SELECT refresh_due_at FROM device WHERE device_id = $1", hurried
    )
    assert (next_turn - places[hurried]).total_seconds() == pytest.approx(86_400, abs=1e-3)


async def test_after_an_outage_devices_come_back_in_batches_and_keep_their_place(
    inventory: Any,
) -> None:
    devices = {await inventory.device() for _ in range(3)}
    pool = inventory.service.context.pool
    places = {r[0]: r[1] for r in await pool.fetch("SELECT device_id, refresh_due_at FROM device")}
    inventory.later(days=10)
    await inventory.service.run_job("refresh")
    assert {r.device_id for r in (await inventory.told()).of(CommandRequested)} == devices
    await inventory.service.run_job("refresh")
    assert not (await inventory.told()).events
    for row in await pool.fetch("SELECT device_id, refresh_due_at FROM device"):
        away = row["refresh_due_at"] - places[row["device_id"]]
        assert away.total_seconds() % 86400 == pytest.approx(0, abs=1e-3)
        assert 0 < (row["refresh_due_at"] - inventory.clock.now()).total_seconds() <= 86400


async def test_an_ended_enrollment_is_asked_no_more(inventory: Any) -> None:
    ended, replaced = await inventory.device(), await inventory.device()
    for device, enrollment in (
        (ended, inventory.enrollments[ended]),
        (replaced, uuid7()),  # an earlier enrollment's end, heard late
    ):
        event = DeviceUnenrolled(
            device_id=device, enrollment_id=enrollment, generation=1, reason="check_out"
        )
        await inventory.service.hears(event, service="enrollment")
    inventory.later(days=2)
    await inventory.service.run_job("refresh")
    asked = {r.device_id for r in (await inventory.told()).of(CommandRequested)}
    assert asked == {replaced}


@pytest.mark.parametrize("state", ["pending", "quarantined", "ended"])
async def test_devices_that_take_no_commands_are_not_asked(inventory: Any, state: str) -> None:
    device = await inventory.device(state=state)
    inventory.later(days=2)
    await inventory.service.run_job("refresh")
    assert not (await inventory.told()).events
    answer = await inventory.service.call("POST", f"{PATH}/{device}/refresh", {})
    assert (answer.status, answer.json["code"]) == (409, "device_not_managed")


async def test_a_person_asks_for_sections_and_it_is_audited(inventory: Any) -> None:
    device = await inventory.device()
    keys = set()
    for _ in range(2):
        answer = await inventory.service.call(
            "POST",
            f"{PATH}/{device}/refresh",
            {"sections": ["security", "profiles"], "reason": "ticket 7"},
            actor="ada",
            permissions=["inventory.refresh"],
        )
        assert (answer.status, answer.json) == (202, {"requested": ["security", "profiles"]})
        told = await inventory.told()
        requests = told.of(CommandRequested)
        assert [(r.params["section"], r.actor, r.reason) for r in requests] == [
            ("security", "ada", "ticket 7"),
            ("profiles", "ada", "ticket 7"),
        ]
        keys |= {r.idempotency_key for r in requests}
        (audit,) = told.of(AuditRecorded)
        assert (audit.actor, audit.target, audit.reason) == ("ada", str(device), "ticket 7")
    assert len(keys) == 2  # the same request within a minute is one command


@pytest.mark.parametrize(
    ("method", "path", "body", "permissions", "status"),
    [
        ("POST", "/{device}/refresh", {}, ["inventory.read"], 403),
        ("GET", "", None, ["inventory.refresh"], 403),
        ("POST", "/{device}/refresh", {"sections": ["passwords"]}, ["*"], 422),
        ("POST", "/{device}/refresh", {"reason": "x" * 301}, ["*"], 422),
        ("POST", f"/{uuid7()}/refresh", {}, ["*"], 404),
        ("GET", f"/{uuid7()}/facts", None, ["*"], 404),
        ("GET", f"/{uuid7()}", None, ["*"], 404),
        ("GET", "/rubbish/facts", None, ["*"], 404),
        ("GET", "/{device}/facts?at=yesterday", None, ["*"], 400),
        ("GET", "/{device}/facts?at=2026-01-01T00:00:00", None, ["*"], 400),
        ("GET", "/{device}/applications?cursor=AAAA", None, ["*"], 400),
        ("GET", "/{device}/applications?cursor=WzFd", None, ["*"], 400),
        ("GET", "/{device}/history?cursor=WyJhIiwiYiJd", None, ["*"], 400),
        ("GET", "/{device}/history?name=no.such", None, ["*"], 404),
        ("GET", "?cursor=WyJ4Il0", None, ["*"], 400),
        ("GET", "?limit=0", None, ["*"], 400),
        ("GET", "?platform=amiga", None, ["*"], 400),
    ],
)
async def test_what_cannot_be_is_refused_with_a_reason(
    inventory: Any, method: str, path: str, body: Any, permissions: list[str], status: int
) -> None:
    device = await inventory.device()
    answer = await inventory.service.call(
        method, PATH + path.replace("{device}", str(device)), body, permissions=permissions
    )
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    assert answer.json["code"]


async def test_the_list_of_devices_pages_and_filters(inventory: Any) -> None:
    phones = [await inventory.device(serial=f"PH{n}", name=f"Phone {n}") for n in range(5)]
    mac = await inventory.device(
        serial="MAC1", platform=Platform.MACOS, model="Mac14,2", user="grace", os_version="13.1"
    )
    gone = await inventory.device(state="ended")
    for device in phones:
        await inventory.reports(
            device, "device_information", {"OSVersion": "17.4.1", "BatteryLevel": 0.5}
        )
    await inventory.reports(phones[1], "applications", [{"Identifier": "com.example.vpn"}])
    listed: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        answer = await inventory.service.call("GET", f"{PATH}?limit=2{cursor}")
        listed += answer.json["items"]
        cursor = f"&cursor={answer.json['next']}" if answer.json["next"] else None
    # By id; ids of one millisecond have no order among themselves.
    assert [row["device_id"] for row in listed] == sorted(str(d) for d in [*phones, mac, gone])
    shown = {row["device_id"]: row for row in listed}
    assert shown[str(phones[0])]["facts"] == {"os.version": "17.4.1", "battery.level": 0.5}
    assert shown[str(phones[0])]["os_version"] == "17.4.1"
    assert shown[str(mac)]["os_version"] == "13.1"

    async def ids(query: str) -> list[str]:
        answer = await inventory.service.call("GET", f"{PATH}?{query}")
        return [row["device_id"] for row in answer.json["items"]]

    assert await ids("platform=macos") == [str(mac)]
    assert await ids("os=17") == sorted(str(d) for d in phones)
    assert await ids("os=17.4.1") == sorted(str(d) for d in phones)
    assert await ids("os=1") == []
    assert await ids("model=Mac14,2") == [str(mac)]
    assert await ids("q=GRACE") == [str(mac)]
    assert await ids("q=phone%203") == [str(phones[3])]
    assert await ids("q=100%25") == []
    assert await ids("managed=false") == [str(gone)]
    assert await ids("application=com.example.vpn") == [str(phones[1])]


async def test_the_catalogue_of_facts_can_be_read(inventory: Any) -> None:
    known = (await inventory.service.call("GET", "/api/v1/inventory/facts")).json["items"]
    assert {row["name"]: row["kind"] for row in known}["passcode.present"] == "flag"


async def test_one_device_shows_its_facts_reports_and_last_sign_of_life(inventory: Any) -> None:
    device = await inventory.device(name="Desk")
    seen_at = inventory.later(hours=1)
    event = DeviceSeen(device_id=device, channel_id=device, seen_at=seen_at)
    await inventory.service.hears(event, service="command_queue")
    await inventory.reports(device, "security", {"PasscodePresent": True})
    shown = (await inventory.service.call("GET", f"{PATH}/{device}")).json
    assert shown["name"] == "Desk"
    assert shown["facts"] == {"passcode.present": True}
    assert shown["last_seen_at"] == shown["reported"]["security"] == "2026-06-01T13:00:00Z"


async def test_a_stale_state_is_ignored_and_a_deleted_device_is_forgotten(inventory: Any) -> None:
    device = await inventory.device(name="now")
    await inventory.reports(device, "device_information", {"OSVersion": "17"})
    await inventory.reports(device, "applications", [{"Identifier": "a"}])
    service = inventory.service
    for deleted in (False, True):
        state = inventory.state(device, name="old", deleted=deleted)
        (stale,) = travelled(state, service="enrollment", sequence=0)
        await apply(service.context.pool, "inventory", service.parts.handlers, [stale])
    assert (await service.call("GET", f"{PATH}/{device}")).json["name"] == "now"
    await service.hears(inventory.state(device, deleted=True), service="enrollment")
    assert (await service.call("GET", f"{PATH}/{device}")).status == 404
    pool = service.context.pool
    for table in ("device", "report", "fact", "application"):
        assert await pool.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_an_emptied_projection_is_rebuilt_from_device_state(inventory: Any) -> None:
    device = await inventory.device(name="Desk")
    pool = inventory.service.context.pool
    await pool.execute("DELETE FROM device")
    await inventory.service.hears(inventory.state(device, name="Desk"), service="enrollment")
    assert (await inventory.service.call("GET", f"{PATH}/{device}")).json["name"] == "Desk"
    inventory.later(days=2)
    await inventory.service.run_job("refresh")
    assert len((await inventory.told()).of(CommandRequested)) == 5


async def test_history_and_lost_parts_are_dropped_when_old(inventory: Any) -> None:
    device = await inventory.device()
    pool = inventory.service.context.pool
    for version in ("1", "2", "3"):
        await inventory.reports(device, "device_information", {"OSVersion": version})
        await inventory.reports(device, "applications", [{"Identifier": version}])
        inventory.later(days=300)
    await pool.execute(
        "INSERT INTO answer_part VALUES ($1, $2, 0, '{', now() - interval '300 years')",
        uuid7(),
        device,
    )
    await inventory.service.run_job("retention")
    kept = await pool.fetch("SELECT value FROM fact_history")
    assert [row["value"] for row in kept] == ["2"]
    assert await pool.fetchval("SELECT count(*) FROM item_history") == 1
    assert await pool.fetchval("SELECT count(*) FROM answer_part") == 0
