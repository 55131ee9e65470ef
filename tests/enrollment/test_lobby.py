"""Deciding in the lobby, and what it shows (docs/decisions/0057-deciding-in-the-lobby.md)."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from shared.events.audit import AuditRecorded
from shared.events.base import uuid7
from shared.events.devices import (
    BootstrapTokenChanged,
    CertificateRevoked,
    DeviceEnrolled,
    DeviceQuarantined,
    DeviceRefused,
    DeviceReleased,
    DeviceUnenrolled,
)
from shared.events.groups import DeviceGroups
from shared.runtime.charging import PATH as CHARGE_PATH
from tests.enrollment.conftest import API, Apple, House
from tests.enrollment.test_quarantine import impostor_of


async def stranger(house: House, *, tokens: bool = True, **credential: Any) -> tuple[Apple, UUID]:
    """Hardware that is on no list, waiting; and its enrollment."""
    device = house.device()
    path = await house.credential(**{"serials": "listed"} | credential)
    device.identity = await house.identity(path)
    return device, await waits(house, device, tokens=tokens)


async def impostor(house: House, device: Apple) -> tuple[Apple, UUID]:
    """Somebody who claims to be this device, waiting."""
    claimer = await impostor_of(house, device)
    return claimer, await waits(house, claimer)


async def waits(house: House, device: Apple, *, tokens: bool = True) -> UUID:
    await house.told()
    assert (await house.check_in(device, device.authenticate())).status == 200
    enrollment_id = (await house.told()).one(DeviceQuarantined).enrollment_id
    if tokens:
        assert (await house.check_in(device, device.token_update())).status == 200
    return enrollment_id


async def decide(house: House, enrollment_id: UUID, word: str, **more: Any) -> tuple[int, Any]:
    path = f"{API}/lobby/{enrollment_id}/{word}"
    answer = await house.service.call("POST", path, {"reason": "looked at it"}, **more)
    return answer.status, answer.json


async def test_a_stranger_that_is_released_goes_on_by_itself(house: House) -> None:
    device, enrollment_id = await stranger(house)
    await house.told()
    status, shown = await decide(house, enrollment_id, "release", actor="ada")
    assert (status, shown["decision"], shown["decided_by"]) == (200, "released", "ada")
    told = await house.told()
    assert (told.one(DeviceReleased).actor, told.one(DeviceReleased).reason) == (
        "ada",
        "looked at it",
    )
    assert told.one(DeviceEnrolled).serial == device.serial
    assert told.enrollment.channels[0].push is not None  # it can be woken now
    audit = told.one(AuditRecorded)
    assert (audit.action, audit.permission) == ("lobby.release", "lobby.decide")
    assert audit.after == {"enrollment_id": str(enrollment_id), "reasons": ["serial_unlisted"]}
    assert (await house.check_in(device, device.token_update())).status == 200
    assert house.fences == []  # nobody was displaced


async def test_a_refused_stranger_is_revoked_and_answered_400(house: House) -> None:
    device, enrollment_id = await stranger(house)
    await house.told()
    status, shown = await decide(house, enrollment_id, "refuse", actor="ada")
    assert (status, shown["decision"], shown["decision_reason"]) == (
        200,
        "refused",
        "looked at it",
    )
    told = await house.told()
    refused = told.one(DeviceRefused)
    assert (refused.how, refused.actor, refused.reason) == ("refused", "ada", "looked at it")
    assert told.one(CertificateRevoked).reason == "refused"
    assert not told.of(DeviceUnenrolled)
    assert told.one(AuditRecorded).action == "lobby.refuse"
    for message in (device.authenticate(), device.token_update(), device.message("CheckOut")):
        answer = await house.check_in(device, message)
        assert (answer.status, answer.text) == (400, "certificate_revoked\n")
    assert not (await house.told()).of(DeviceQuarantined)


async def test_a_refused_impostor_leaves_the_device_as_it_was(house: House) -> None:
    device = await house.enrolled()
    before = (await house.told()).enrollment
    claimer, enrollment_id = await impostor(house, device)
    assert (await decide(house, enrollment_id, "refuse"))[0] == 200
    told = await house.told()
    assert told.enrollment == before
    assert (await house.check_in(device, device.token_update())).status == 200
    assert (await house.check_in(claimer, claimer.token_update())).status == 400
    # command_queue is told that the refused one ended, and of nothing else.
    await house.service.run_job("fences")
    assert {one["enrollment_id"] for one in house.fences} == {str(enrollment_id)}


@pytest.mark.parametrize("word", ["release", "refuse"])
async def test_the_same_decision_again_is_answered_like_the_first(house: House, word: str) -> None:
    _, enrollment_id = await stranger(house)
    first = await decide(house, enrollment_id, word, actor="ada")
    await house.told()
    again = await decide(house, enrollment_id, word, actor="bob")
    assert again == first
    assert again[1]["decided_by"] == "ada"
    assert not (await house.told()).events


@pytest.mark.parametrize(("first", "second"), [("release", "refuse"), ("refuse", "release")])
async def test_another_decision_is_told_who_was_quicker(
    house: House, first: str, second: str
) -> None:
    _, enrollment_id = await stranger(house)
    await decide(house, enrollment_id, first, actor="ada")
    await house.told()
    status, problem = await decide(house, enrollment_id, second, actor="bob")
    assert (status, problem["code"], problem["decided_by"]) == (409, "decided_otherwise", "ada")
    assert not (await house.told()).events


async def test_of_many_that_decide_at_once_one_does(house: House) -> None:
    device = await house.enrolled()
    _, enrollment_id = await impostor(house, device)
    await house.told()
    words = ["release", "refuse"] * 5
    answers = await asyncio.gather(
        *(
            decide(house, enrollment_id, word, actor=f"person{number}")
            for number, word in enumerate(words)
        )
    )
    assert {status for status, _ in answers} <= {200, 409}
    assert len({shown["decided_by"] for status, shown in answers if status == 200}) == 1
    told = await house.told()
    assert len(told.of(DeviceReleased)) + len(told.of(DeviceRefused)) == 1
    assert len(told.of(AuditRecorded)) == 1
    [row] = await house.query(
        "SELECT state FROM enrollment WHERE enrollment_id = $1", enrollment_id
    )
    assert row["state"] == ("ended" if told.of(DeviceRefused) else "enrolled")
    # The device itself was displaced by a release, and by nothing else.
    answer = await house.check_in(device, device.token_update())
    assert answer.status == (200 if told.of(DeviceRefused) else 400)
    displaced = [one for one in house.fences if one["enrollment_id"] != str(enrollment_id)]
    assert len(displaced) == len(told.of(DeviceReleased))


async def test_a_device_that_knocks_meanwhile_is_served_by_the_decision(house: House) -> None:
    device, enrollment_id = await stranger(house)
    async with asyncio.TaskGroup() as tasks:
        for message in [device.authenticate(), device.token_update()] * 4:
            tasks.create_task(house.check_in(device, message))
        decided = tasks.create_task(decide(house, enrollment_id, "release"))
    assert decided.result()[0] == 200
    assert (await house.check_in(device, device.authenticate())).status == 200
    assert (await house.check_in(device, device.token_update())).status == 200
    told = await house.told()
    assert (told.enrollment.enrollment_id, told.enrollment.state) == (enrollment_id, "enrolled")


async def test_an_impostor_that_checks_out_during_its_release_harms_nobody(house: House) -> None:
    """The fence that ends the device's own enrollment is never raised in vain."""
    device = await house.enrolled()
    claimer, enrollment_id = await impostor(house, device)
    leave = claimer.message("CheckOut", Topic="com.apple.mgmt.x")
    _, (status, _) = await asyncio.gather(
        house.check_in(claimer, leave), decide(house, enrollment_id, "release")
    )
    assert status in (200, 404, 409)
    displaced = [one for one in house.fences if one["enrollment_id"] != str(enrollment_id)]
    assert len(displaced) == (1 if status == 200 else 0)


async def test_displacing_a_device_is_charged_before_anything_is_done(house: House) -> None:
    """Who may decide must not be able to end a fleet by letting impostors in."""
    device = await house.enrolled()
    _, enrollment_id = await impostor(house, device)
    await house.told()
    house.others.answers["command_queue", CHARGE_PATH] = {"refused": "25 of 25 are spent"}
    status, problem = await decide(house, enrollment_id, "release")
    assert (status, problem["code"]) == (409, "guard_refused")
    house.others.answers.clear()
    house.others.failing.add("command_queue")
    assert (await decide(house, enrollment_id, "release"))[0] == 503
    assert house.fences == []
    assert not (await house.told()).events
    assert (await house.check_in(device, device.token_update())).status == 200
    house.others.failing.clear()
    _, alone = await stranger(house)
    assert (await decide(house, alone, "release"))[0] == 200
    charges = [path for _, _, path, _ in house.others.calls if path == CHARGE_PATH]
    assert len(charges) == 2  # who displaces nobody is not charged


async def test_who_takes_itself_out_of_the_lobby_ends_nothing_else(house: House) -> None:
    device = await house.enrolled()
    claimer, enrollment_id = await impostor(house, device)
    await house.told()
    leave = claimer.message("CheckOut", Topic="com.apple.mgmt.x")
    assert (await house.check_in(claimer, leave)).status == 200
    told = await house.told()
    assert told.one(DeviceRefused).how == "left"
    assert not told.of(DeviceUnenrolled)
    assert told.enrollment.state == "enrolled"
    shown = await house.call("GET", f"/lobby/{enrollment_id}")
    assert shown["decision"] == "left"


async def test_who_waits_too_long_is_refused(house: House) -> None:
    device, enrollment_id = await stranger(house)
    _, younger = await stranger(house)
    longer = "UPDATE lobby SET expires_at = expires_at + interval '1 hour' WHERE enrollment_id = $1"
    await house.query(longer, younger)
    house.later(days=6, hours=23)
    await house.told()
    await house.service.run_job("lobby")
    assert not (await house.told()).events
    house.later(hours=1)
    await house.service.run_job("lobby")
    told = await house.told()
    refused = told.one(DeviceRefused)
    assert (refused.enrollment_id, refused.how, refused.actor) == (enrollment_id, "expired", None)
    assert (await house.check_in(device, device.token_update())).status == 400
    status, problem = await decide(house, enrollment_id, "release")
    assert (status, problem["decision"]) == (409, "expired")
    assert (await decide(house, younger, "release"))[0] == 200


async def test_a_revocation_of_what_waits_is_a_refusal(house: House) -> None:
    device = await house.enrolled()
    _, enrollment_id = await impostor(house, device)
    await house.told()
    body = {"reason": "not ours", "enrollment_id": str(enrollment_id)}
    await house.call("POST", f"/devices/{await house.id_of(device)}/revoke", body, actor="ada")
    refused = (await house.told()).one(DeviceRefused)
    assert (refused.how, refused.actor) == ("refused", "ada")
    assert (await house.call("GET", f"/lobby/{enrollment_id}"))["decision"] == "refused"


async def test_refused_hardware_waits_again_whatever_it_comes_with(house: House) -> None:
    device, enrollment_id = await stranger(house)
    await decide(house, enrollment_id, "refuse")
    device.identity = await house.identity(await house.credential(serials="any"))
    await waits(house, device)
    [again] = (await house.call("GET", "/lobby"))["items"]
    assert again["reasons"] == ["refused_before"]


async def test_what_is_escrowed_while_waiting_is_told_at_the_release(house: House) -> None:
    device, enrollment_id = await stranger(house)
    message = device.message("SetBootstrapToken", BootstrapToken=b"of my own")
    assert (await house.check_in(device, message)).status == 200
    assert not (await house.told()).of(BootstrapTokenChanged)
    asked = await house.check_in(device, device.message("GetBootstrapToken"))
    assert (asked.status, asked.body) == (200, b"")
    await decide(house, enrollment_id, "release")
    assert (await house.told()).one(BootstrapTokenChanged).escrowed
    asked = await house.check_in(device, device.message("GetBootstrapToken"))
    assert b"b2YgbXkgb3du" in asked.body


async def test_the_list_is_filtered_and_read_page_by_page(house: House) -> None:
    ids: list[UUID] = []
    for number in range(5):
        house.later(seconds=1)
        ids.append((await stranger(house, name=f"c{number}", tokens=False))[1])
    await decide(house, ids[0], "refuse")
    seen, cursor = [], ""
    while True:
        page = await house.call("GET", f"/lobby?limit=2{cursor}")
        seen += [one["enrollment_id"] for one in page["items"]]
        if not page["next"]:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [str(one) for one in reversed(ids[1:])]

    async def found(query: str) -> list[str]:
        return [
            one["enrollment_id"] for one in (await house.call("GET", f"/lobby?{query}"))["items"]
        ]

    [refused] = (await house.call("GET", "/lobby?state=refused"))["items"]
    assert (refused["enrollment_id"], refused["credential_name"]) == (str(ids[0]), "c0")
    assert len(await found("state=any")) == 5
    assert await found("reason=hardware_known") == []
    assert len(await found("reason=serial_unlisted")) == 4
    assert await found(f"state=any&credential_id={refused['credential_id']}") == [str(ids[0])]
    assert await found("address=192.0.2.1") == []
    since = (house.clock.now() - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")
    assert await found(f"since={since}") == [str(ids[4]), str(ids[3])]
    assert await found(f"until={since}") == [str(ids[2]), str(ids[1])]
    for bad in ("state=odd", "cursor=odd", "credential_id=odd", "since=2026-01-01"):
        assert (await house.service.call("GET", f"{API}/lobby?{bad}")).status == 400


async def test_counts_and_views_by_credential_and_address(outer_house: House) -> None:
    house = outer_house
    first, second = [await house.credential(serials="listed", name=n, max_uses=9) for n in "ab"]
    waiting = []
    for path in (first, first, second):
        device = house.device()
        device.identity = await house.identity(path)
        waiting.append(await waits(house, device, tokens=False))
    counts = await house.call("GET", "/lobby/counts")
    assert (counts["waiting"], counts["by_reason"]) == (3, {"serial_unlisted": 3})
    assert counts["oldest"] is not None
    await decide(house, waiting[0], "release")
    await decide(house, waiting[2], "refuse")
    groups = (await house.call("GET", "/lobby/groups?by=credential"))["items"]
    assert [(one["name"], one["waiting"], one["released"], one["refused"]) for one in groups] == [
        ("a", 1, 1, 0),
        ("b", 0, 0, 1),
    ]
    [address] = (await house.call("GET", "/lobby/groups?by=address"))["items"]
    assert (address["what"], address["waiting"]) == ("127.0.0.1", 1)


async def test_an_empty_lobby_counts_nobody(house: House) -> None:
    counts = await house.call("GET", "/lobby/counts")
    assert counts == {"waiting": 0, "oldest": None, "by_reason": {}}
    assert (await house.call("GET", "/lobby/groups?by=address"))["items"] == []
    await house.service.run_job("lobby")
    await house.service.run_job("count lobby")


async def test_the_device_it_may_be_impersonating_stands_beside_it(house: House) -> None:
    device = await house.enrolled()
    _, enrollment_id = await impostor(house, device)
    shown = await house.call("GET", f"/lobby/{enrollment_id}")
    assert shown["conflicts_with"] == shown["device"]["device_id"]
    assert (shown["device"]["serial"], shown["device"]["state"]) == (device.serial, "enrolled")
    assert shown["claimed"]["serial"] == device.serial
    _, alone = await stranger(house)
    assert (await house.call("GET", f"/lobby/{alone}"))["device"] is None


async def test_who_may_decide_on_a_group_decides_on_its_devices_only(house: House) -> None:
    device = await house.enrolled()
    device_id, group = await house.id_of(device), uuid7()
    await house.service.hears(
        DeviceGroups(device_id=device_id, groups=[group]), service="inventory"
    )
    _, inside = await impostor(house, device)
    _, outside = await stranger(house)
    rights: dict[str, Any] = {
        "permissions": [],
        "groups": {group: ["lobby.decide", "enrollment.read"]},
    }
    listed = await house.call("GET", "/lobby", **rights)
    assert [one["enrollment_id"] for one in listed["items"]] == [str(inside)]
    assert (await house.call("GET", "/lobby/counts", **rights))["waiting"] == 1
    assert len((await house.call("GET", "/lobby/groups?by=credential", **rights))["items"]) == 1
    for word in ("release", "refuse"):
        status, problem = await decide(house, outside, word, **rights)
        assert (status, problem["code"]) == (404, "enrollment_unknown")
    path = f"{API}/lobby/{outside}"
    assert (await house.service.call("GET", path, **rights)).status == 404
    assert (await decide(house, inside, "refuse", **rights))[0] == 200


@pytest.mark.parametrize("permissions", [[], ["enrollment.read"], ["enrollment.revoke"]])
async def test_deciding_needs_its_permission(house: House, permissions: list[str]) -> None:
    _, enrollment_id = await stranger(house)
    for word in ("release", "refuse"):
        assert (await decide(house, enrollment_id, word, permissions=permissions))[0] == 403
    assert (await house.call("GET", f"/lobby/{enrollment_id}"))["decision"] is None


async def test_a_decision_needs_a_reason_and_a_name_that_exists(house: House) -> None:
    _, enrollment_id = await stranger(house)
    for body in ({}, {"reason": ""}, {"reason": "x" * 301}, {"reason": "x", "force": True}):
        answer = await house.service.call("POST", f"{API}/lobby/{enrollment_id}/refuse", body)
        assert answer.status == 422
    assert (await decide(house, uuid7(), "refuse"))[0] == 404


async def test_old_decisions_are_forgotten_and_what_waits_is_not(house: House) -> None:
    _, enrollment_id = await stranger(house)
    _, waiting = await stranger(house)
    await decide(house, enrollment_id, "refuse")
    house.later(days=31)
    await house.service.run_job("forget")
    rows = await house.query("SELECT enrollment_id FROM lobby")
    assert [row["enrollment_id"] for row in rows] == [waiting]
